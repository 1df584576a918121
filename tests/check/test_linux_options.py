"""Misspelt options of Linux: what is named, and above all what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbtool.check.linux_options import documented, one_slip
from mbtool.check.report import Problem
from tests.check.sets import XEN, problems, vmlinux, vmlinuz

RULE = "LINUX-OPTION-MISSPELT"


def found(folder: Path, cmdline: str, **files: bytes | Path) -> list[Problem]:
    files = files or {"kernel": vmlinuz()}
    return [problem for problem in problems(folder, files, cmdline=cmdline) if problem.id == RULE]


@pytest.mark.parametrize(
    ("words", "name", "option"),
    [
        ("root=/dev/sda1 ro quite", "quite", "quiet"),
        ("consle=ttyS0", "consle", "console"),
        ("console=tty0 crashkernal=256M", "crashkernal", "crashkernel"),
        ("isolcpu=2-7", "isolcpu", "isolcpus"),
        ("mitigation=off", "mitigation", "mitigations"),
        ("nomodset", "nomodset", "nomodeset"),
        ("intel_iomu=on", "intel_iomu", "intel_iommu"),
        ("transparent_hugepages=never", "transparent_hugepages", "transparent_hugepage"),
        ("earlyprnitk=xen", "earlyprnitk", "earlyprintk"),
        ("log-buflen=4M log-bufl-len=4M", "log-bufl-len", "log_buf_len"),
    ],
)
def test_near_misses(tmp_path: Path, words: str, name: str, option: str) -> None:
    problem = found(tmp_path, words)[-1]
    assert (problem.severity, problem.evidence.field, problem.evidence.remedy) == (
        "warning",
        name,
        f"write {option}",
    )
    assert problem.evidence.file == "the kernel's command line"


@pytest.mark.parametrize(
    "words",
    [
        # Debian: grub-mkconfig, live-boot's default, the installer's menu and an automatic variant
        "BOOT_IMAGE=/boot/vmlinuz-6.1.0-18-amd64 root=UUID=0a3407de-014b-458b-b5c1-848e92a327a3 ro quiet splash",
        "placeholder root=/dev/mapper/vg-root ro console=hvc0 earlyprintk=xen quiet",
        "boot=live components quiet splash findiso= username=user locales=de_DE.UTF-8 keyboard-layouts=de toram",
        "boot=live persistence persistence-label=data nopersistence noeject live-media-path=/live union=overlay",
        "vga=788 --- quiet",
        "auto=true priority=critical preseed/url=http://10.0.0.1/a url=10.0.0.1 netcfg/get_hostname=a --- quite",
        "DEBIAN_FRONTEND=text theme=dark vga=788 rescue/enable=true speakup.synth=soft desktop=xfce lowmem/low=1",
        # Ubuntu
        "file=/cdrom/preseed/ubuntu.seed maybe-ubiquity quiet splash vt.handoff=7 iso-scan/filename=/u.iso ---",
        "autoinstall ds=nocloud-net;s=http://10.0.0.1/ ip=dhcp cloud-config-url=/dev/null",
        # Fedora, its installer, CoreOS; RHEL
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.5.6 root=UUID=1 ro rootflags=subvol=root rd.luks.uuid=luks-1 rhgb quiet",
        "inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39 rd.live.check inst.ks=http://10.0.0.1/ks nomodeset quiet",
        "$ignition_firstboot ignition.platform.id=metal ostree=/ostree/boot.1/core/1/0 mitigations=auto,nosmt",
        "crashkernel=1G-4G:192M,4G-64G:256M resume=/dev/mapper/rhel-swap rd.lvm.lv=rhel/root biosdevname=0 LANG=C",
        # SUSE, Arch, Gentoo, Alpine, Proxmox
        "splash=silent resume=/dev/sda1 showopts mitigations=auto security=apparmor install=hd:/ autoyast=nfs",
        "archisobasedir=arch archisolabel=ARCH_202401 cryptdevice=UUID=1:root:allow-discards copytoram rw",
        "dolvm crypt_root=UUID=1 real_root=/dev/sda2 domdadm",
        "modules=loop,squashfs,sd-mod alpine_dev=usbdisk:vfat modloop=/boot/modloop-lts usbdelay=3 quiet",
        "root=ZFS=rpool/ROOT/pve-1 boot=zfs intel_iommu=on iommu=pt nvme_core.default_ps_max_latency_us=0",
        # systemd's and init's words; what users hand their own programs
        "systemd.unit=rescue.target rescue emergency single 1 -b fsck.mode=force modules-load=a,b locale.LANG=C",
        'dyndbg="file drivers/usb/* +p; quite" net.ifnames=0 MYVAR=1 my_site=berlin',
        # Linux' words with the other dash; undocumented ones; of other releases
        "log-buf-len=4M no_kvmclock print_fatal_signals=1 elevator=noop swapaccount=1 netconsole=@/,@1.1.1.1/",
        "slab_nomerge slub_debug=FZP slab_debug=FZP noaliencache fred=on xen_nopvspin",
        # Xen's
        "dom0_mem=1G hvm_debug=1 loglvl=all",
        # behind the dashes; module.parameter; too short; nothing
        "-- quite consle=ttyS0",
        "--- quite",
        "nomodule.x=1 usbcor.autosuspend=1",
        "rot=1 pinc=1 roo acp=off",
        "",
    ],
)
def test_words_that_are_no_mistakes(tmp_path: Path, words: str) -> None:
    assert found(tmp_path, words) == []


def test_dom0_and_other_kernels(tmp_path: Path) -> None:
    """dom0's line is Linux' as well; a kernel with a Multiboot header is none of Linux', and so is its line."""
    other = (Path(__file__).parents[2] / "samples" / "multiboot2" / "multiboot2.elf").read_bytes()
    assert found(tmp_path, "quite", xen=XEN / "xen-4.18.0.gz", kernel=vmlinux())
    assert found(tmp_path, "quite", kernel=other) == []


def test_what_linux_cuts_off_is_not_read(tmp_path: Path) -> None:
    assert found(tmp_path, f"my_words={'x' * 2000} quite")
    assert found(tmp_path, f"my_words={'x' * 2048} quite") == []


def test_lists_by_release() -> None:
    """Read off the documentation of the two: slub_debug is slab_debug in 6.12, and fred= is new there."""
    assert "slub_debug" in documented("6.1.0-18-amd64")
    assert {"slab_debug", "fred"}.isdisjoint(documented("6.1.0-18-amd64"))
    assert documented("5.10.0-28-amd64") == documented("6.1.0-18-amd64")
    assert {"slab_debug", "fred"} <= documented("6.12.9")
    assert "slub_debug" not in documented("6.12.9")
    assert documented("7.0.0-rc1") == documented("6.12.9")
    assert {"slub_debug", "slab_debug", "quiet"} <= documented("")
    assert {"slub_debug", "slab_debug"}.isdisjoint(documented("6.6.1"))


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("quiet", "quiet", False),
        ("quiet", "quite", True),
        ("quiet", "qiuet", True),
        ("quiet", "quie", True),
        ("quiet", "qquiet", True),
        ("quiet", "quiat", True),
        ("quiet", "quieter", False),
        ("quiet", "tuieq", False),
        ("quiet", "qei", False),
        ("ab", "ba", True),
        ("", "a", True),
        ("", "", False),
    ],
)
def test_one_slip(a: str, b: str, near: bool) -> None:
    assert one_slip(a, b) is one_slip(b, a) is near
