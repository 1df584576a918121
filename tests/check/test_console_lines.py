"""What consoles say, with what stands in front of it there: the first answer is the right program's, to the point.

Lines of boots in QEMU (Debian 12's Linux, OVMF, SeaBIOS), or put together from the programs' sources.
"""

from __future__ import annotations

import pytest

from mbtool.check.explain import explain

LINUX = [
    # the real-mode code and the unpacker
    ("This kernel requires an x86-64 CPU, but only detected an i686 CPU.", "64-bit kernel"),
    ("Unable to boot - please use a kernel appropriate for your CPU.", "newer processor"),
    ("XZ-compressed data is corrupt", "damaged"),
    ("ZSTD-compressed data is corrupt", "zstd"),
    ("Decompressing Linux... Parsing ELF... done.", "Booting the kernel"),
    ("Booting the kernel (entry_offset: 0x0000000000000000).", "console=ttyS0"),
    ("Booting the kernel.", "console=ttyS0"),
    ("64-bit relocation outside of kernel!", "relocations"),
    ("Destination physical address inappropriately aligned", "kernel_alignment"),
    # the EFI stub
    ("EFI stub: ERROR: Failed to open file: nothere.img", "initrd="),
    ("EFI stub: ERROR: Failed to load initrd: 0x800000000000000e", "…0e"),
    ("EFI stub: ERROR: efi_stub_entry() failed!", "line above"),
    ("EFI stub: WARNING: Decompression failed: XZ-compressed data is corrupt", "EFI stub could not unpack"),
    ("EFI stub: ERROR: Failed to decompress kernel", "damaged"),
    ("EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path", "another console"),
    # the root
    ("[    2.847866] List of all partitions:", "no driver for any disk"),
    ("[    2.848540] No filesystem could mount root, tried: ", "no initrd"),
    (
        '[    1.20] Please append a correct "root=" boot option; here are the available partitions:',
        "no initrd",
    ),
    ("[    1.6] Waiting for root device /dev/sda9...", "rootwait"),
    ("[    2.3] VFS: PARTUUID= is invalid.", "PARTNROFF"),
    ("[    1.2] Warning: unable to open an initial console.", "/dev/console"),
    (
        "[    3.4] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "No initrd was unpacked",
    ),
    # the initrd
    ("[    1.66] Trying to unpack rootfs image as initramfs...", "No error"),
    ("[    1.9] Initramfs unpacking failed: write error", "no room in memory"),
    ("[    1.9] Initramfs unpacking failed: no cpio magic", "next member"),
    ("[    1.9] Initramfs unpacking failed: Decoding failed", "middle of the initrd"),
    ("[    1.9] Initramfs unpacking failed: ZSTD-compressed data is corrupt", "initrd"),
    (
        "[    0.0] Kernel panic - not syncing: initrd too large to handle, disabling initrd (348401664 needed, "
        "104857600 available)",
        "half of the memory",
    ),
    ("[    0.0] RAMDISK: Couldn't find valid RAM disk image starting at 0.", "no initrd"),
    ("[    2.1] Run /init as init process", "first program"),
    ("[    2.1] Starting init: /sbin/init exists but couldn't execute it (error -8)", "-8"),
    ("[    2.1] Failed to execute /bin/sh (error -2)", "rdinit="),
    # options and modules
    (
        '[    0.0] Unknown kernel command line parameters "foo=bar", will be passed to user space.',
        "misspelt",
    ),
    ("[    0.0] Malformed early option 'mem'", "cannot read the value"),
    ("[    3.1] xen_blkfront: Unknown symbol xenbus_dev_error (err -2)", "another kernel"),
    (
        "[    3.1] loop: version magic '6.1.0-13-amd64 SMP preempt mod_unload ' should be '6.1.0-56-amd64 SMP'",
        "another kernel",
    ),
    ("[    3.1] Loading of unsigned module is rejected", "signatures"),
    ("[    0.0] Kernel is locked down from EFI Secure Boot; see man kernel_lockdown.7", "Secure Boot"),
    ("[    9.0] Lockdown: kexec: kexec of unsigned images is restricted; see man kernel_lockdown.7", "kexec -s"),
    # under Xen
    ("Xen hypervisor allocated kernel memory conflicts with E820 map", "PV dom0"),
    ("[    8.1] XENBUS: Timeout connecting to device: device/vbd/51712 (local state 3, remote state 1)", "backend"),
]

INITRD = [
    ("Begin: Waiting for root file system ... done.", "30 seconds"),
    ("No root device specified. Boot arguments must include a root= parameter.", "no root="),
    ("Failed to mount /dev/sda1 as root file system.", "driver"),
    ("mount: mounting /dev/sda1 on /root failed: No such device", "no driver"),
    ("Target filesystem doesn't have requested /sbin/init.", "another partition"),
    ("No init found. Try passing init= bootarg.", "not the system's root"),
    ("Gave up waiting for suspend/resume device", "resume="),
    ("Gave up waiting for root file system device.  Common problems:", "did not appear"),
    ("modprobe: can't change directory to '6.1.0-13-amd64': No such file or directory", "initrd of another kernel"),
    (
        "modprobe: FATAL: Module xen-blkfront not found in directory /lib/modules/6.1.0-13-amd64",
        "another kernel",
    ),
    ("run-init: opening console: No such file or directory", "/dev/console"),
    ("switch_root: can't execute '/sbin/init': No such file or directory", "init="),
    ("BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) built-in shell (ash)", "shell of the initrd"),
    ("[    3.5] dracut: FATAL: Don't know how to handle 'root=foo'", "misspelt"),
    ("[   65.1] dracut-initqueue[412]: Warning: Could not boot.", "gave up waiting"),
    ("[   65.1] dracut-initqueue[412]: Warning: /dev/mapper/fedora-root does not exist", "is not there"),
    ("Cannot open access to console, the root account is locked.", "before this line"),
    ("[***   ] A start job is running for /dev/disk/by-uuid/1234 (12s / 1min 30s)", "90 seconds"),
    ("[ TIME ] Timed out waiting for device /dev/disk/by-uuid/1234.", "did not appear"),
]

QEMU = [
    ("qemu: could not open kernel file 'bzImage': No such file or directory", "-kernel names"),
    ("qemu-system-x86_64: Failed to open file 'module'", "-initrd is a list"),
    ("qemu-system-x86_64: Error while loading elf kernel", "ELF loader"),
    ("qemu-system-x86_64: invalid header_addr address", "begin before the file"),
    ("qemu: could not load PC BIOS 'OVMF.fd'", "firmware"),
    ("qemu-system-x86_64: system firmware block device pflash0 has invalid size 3", "pflash"),
    ("Could not access KVM kernel module: Permission denied", "group kvm"),
]

EDK = [
    ('BdsDxe: failed to load Boot0001 "UEFI QEMU DVD-ROM " from PciRoot(0x0): Not Found', "BOOTX64.EFI"),
    ('BdsDxe: failed to load Boot0002 "debian" from HD(1,GPT): Access Denied', "Secure Boot is on"),
    ('BdsDxe: failed to start Boot0002 "debian" from HD(1,GPT): Security Violation', "Secure Boot is on"),
    ('BdsDxe: starting Boot0002 "debian" from HD(1,GPT)', "No error"),
    ("Command Error Status: Unsupported", "EFI shell"),
    ("!!!! X64 Exception Type - 0E(#PF - Page-Fault)  CPU Apic ID - 00000000 !!!!", "crashed"),
]

FIRMWARE = [
    ("Boot failed: not a bootable disk", "55 AA"),
    ("Boot failed: Could not read from CDROM (code 0003)", "no disc"),
    ("No bootable device.  Retrying in 60 seconds.", "tried everything"),
    ("This is not a bootable disk.  Please insert a bootable floppy and", "mkfs.fat"),
    ("Missing operating system.", "active partition"),
]

GRUB = [
    ("Loading Linux 6.1.0-13-amd64 ...", "reads the kernel"),
    ("Loading initial ramdisk ...", "another console"),
    ("  Booting a command list", "edited in the menu"),
]

LINES = [
    *(("Linux", *line) for line in LINUX),
    *(("initrd", *line) for line in INITRD),
    *(("GRUB", *line) for line in GRUB),
    *(("QEMU", *line) for line in QEMU),
    *(("EDK II", *line) for line in EDK),
    *(("SeaBIOS or boot sector", *line) for line in FIRMWARE),
]
OTHERS = [
    # of programs whose messages are like QEMU's or a firmware's
    "EFI stub: ERROR: Failed to open file: nothere.img",
    "error: invalid magic number.",
    "error: file `/boot/grub/i386-pc/normal.mod' not found.",
]


@pytest.mark.parametrize("line", OTHERS)
def test_the_lines_of_others(line: str) -> None:
    assert {message.by for message in explain(line).messages[:1]}.isdisjoint(
        {"QEMU", "EDK II", "SeaBIOS or boot sector"}
    )


@pytest.mark.parametrize(("by", "line", "word"), LINES, ids=[line[:50] for _, line, _ in LINES])
def test_the_first_answer(by: str, line: str, word: str) -> None:
    first = explain(line).messages[0]
    assert first.by == by
    assert word in " ".join((first.meaning, *first.causes, first.remedy))
