"""Explanations: for every rule and for what consoles really say."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest

from mbtool.check.catalogue import catalogue
from mbtool.check.dom0 import REFUSALS
from mbtool.check.explain import Message, explain, messages
from mbtool.check.loaders import loaders
from mbtool.formats import xen_versions
from tests.cli.run import mbtool

SCHEMA = json.loads((files("mbtool") / "schemas" / "explain.schema.json").read_text())

SAID = [
    # GRUB 2.06
    ("error: no multiboot header found.", "no multiboot header found"),
    ("error: invalid arch-independent ELF magic.", "invalid arch-independent ELF magic"),
    ("error: not xen image.", "not xen image"),
    ("error: file `/boot/vmlinuz-6.1.0-9-amd64' not found.", "file `*' not found"),
    ("error: unsupported tag: 0x15.", "unsupported tag: *"),
    # GRUB 2.14
    ("error: invalid section header table offset in e_shoff.", "invalid section header table offset in e_shoff"),
    (
        "error: invalid number of section header table entries in sh_size: 0.",
        "invalid number of section header table entries in sh_size: *",
    ),
    (
        "error: invalid section header table index in e_shstrndx: 65281.",
        "invalid section header table index in *: *",
    ),
    (
        "error: invalid number of program header table entries in sh_info: 0.",
        "invalid number of program header table entries in *: *",
    ),
    (
        "error: ELF section header region is larger than the file size.",
        "ELF section header region is larger than the file size",
    ),
    ("alloc magic is broken at 0x1ff4ef70: 0", "alloc magic is broken at *"),
    # Xen 4.17, as on a serial console
    (
        "(XEN) Domain 0 allocation is too small for kernel image",
        "Domain 0 allocation is too small for kernel image",
    ),
    ("(XEN) Panic on CPU 0:", "Panic on CPU *:"),
    ("(XEN) [    0.123] Panic on CPU 3:", "Panic on CPU *:"),
    ("[    1.234567] Kernel panic - not syncing:", "Kernel panic - not syncing:"),
    (
        "[    0.4] Kernel panic - not syncing: Out of memory and no killable processes...",
        "Out of memory and no killable processes",
    ),
    ("[    0.4] Kernel panic - not syncing: System is deadlocked on memory", "System is deadlocked on memory"),
    ("Failed to execute /init (error -2)", "Failed to execute /init (error *)"),
    (
        "Kernel panic - not syncing: Requested init /sbin/init failed (error -2).",
        "Requested init * failed (error *)",
    ),
    ("error: file '/boot/vmlinuz' not found.", "file `*' not found"),
    ("error: file \u2018/boot/vmlinuz\u2019 not found.", "file `*' not found"),
    (
        "qemu-system-x86_64: linux kernel too old to load a ram disk",
        "qemu: linux kernel too old to load a ram disk",
    ),
    ("(XEN) [2026-01-05 10:20:30] ELF: not an ELF binary", "ELF: not an ELF binary"),
    ('(XEN) parameter "consle" unknown!', 'parameter "*" unknown!'),
    ('(XEN) parameter "dom0_mem" has invalid value "6M4", rc=-22!', 'parameter "*" has invalid value "*", rc=*'),
    ("Could not construct domain 0", "Could not construct domain 0"),
    ("(XEN) Hardware Dom0 halted: halting machine", "Hardware Dom0 halted: halting machine"),
    # Xen 4.20 to 4.22
    ("(XEN) Could not construct d0", "Could not construct d0"),
    ("(XEN) Failed to load kernel: -1", "Failed to load kernel: *"),
    ("(XEN) FATAL TRAP: vector = 13 (general protection fault)", "FATAL TRAP: *"),
    (
        "EFI stub: ERROR: Failed to decompress kernel",
        "Failed to decompress kernel",
    ),
    ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00", "Attempted to kill init!*"),
    # Xen's EFI loader, its unpackers, and lines that are no errors but the last ones to be seen
    ("Configuration file not found.", "Configuration file not found."),
    ("PE invalid section size + address", "PE invalid section size + address"),
    (
        "Couldn't obtain the File System Protocol Interface: ErrCode: 0x8000000000000003",
        "Couldn't obtain the File System Protocol Interface",
    ),
    ("(XEN) ZSTD-compressed data is truncated", "ZSTD-compressed data is *"),
    ("(XEN) d0 kernel: broken ELF: too many ELF notes", "broken ELF: *"),
    ("(XEN) Dom0 kernel broken ELF: out of range access", "broken ELF: *"),
    ("(XEN) *** Building a PV Dom0 ***", "*** Building a PV Dom* ***"),
    ("(XEN) Xen is relinquishing VGA console.", "Xen is relinquishing VGA console"),
    ("(XEN) Unable to load FLASK policy", "Unable to load FLASK policy"),
    (
        "(XEN) IO-APIC + timer doesn't work!  Boot with apic_verbosity=debug and send a report",
        "IO-APIC + timer doesn't work!",
    ),
    # GRUB, before a kernel is there and while it is loaded
    ("error: no such partition.", "no such partition"),
    ("error: attempt to read or write outside of disk `hd0'.", "attempt to read or write outside of disk `*'"),
    ("error: couldn't find suitable memory target.", "couldn't find suitable memory target"),
    ("error: variable `prefix' isn't set.", "variable `*' isn't set"),
    ("error: Section 2 is inside image headers", "Section * is inside image headers"),
    ("Failed to boot both default and fallback entries.", "Failed to boot both default and fallback entries"),
    ("grub rescue>", "grub rescue>"),
    # QEMU 7.2
    ("qemu: linux kernel too old to load a ram disk", "qemu: linux kernel too old to load a ram disk"),
    ("linux kernel too old", "qemu: linux kernel too old to load a ram disk"),
    (
        "qemu-system-x86_64: Error loading uncompressed kernel without PVH ELF Note",
        "Error loading uncompressed kernel without PVH ELF Note",
    ),
    (
        "qemu-system-x86_64: Cannot load x86-64 image, give a 32bit one.",
        "Cannot load x86-64 image, give a 32bit one.",
    ),
    # kexec-tools, Linux, initramfs-tools
    ("Cannot determine the file type of vmlinuz", "Cannot determine the file type of *"),
    (
        "[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "VFS: Unable to mount root fs on unknown-block(*)",
    ),
    ("[    0.5] Initramfs unpacking failed: junk within compressed archive", "Initramfs unpacking failed: *"),
    # GRUB 2.06 in QEMU: search, a missing command, a missing file; what is not about a file must not be called so
    ("error: no such device: 1234-5678.", "no such device: *"),
    ("error: can't find command `foo'.", "can't find command `*'"),
    ("error: ../../grub-core/fs/fshelp.c:257:file `/vmlinuz' not found.", "file `*' not found"),
    ("error: shim_lock protocol not found.", "shim_lock protocol not found"),
    ("error: disk `hd5,msdos1' not found.", "disk `*' not found"),
    ("Multiboot header not found", ""),
    # shim, SYSLINUX, kexec, Linux
    ("Verification failed: (0x1A) Security Violation", "Verification failed: (0x1A) Security Violation"),
    ("Could not find kernel image: linux", "Could not find kernel image: *"),
    ("kexec_load failed: Cannot assign requested address", "kexec_load failed: *"),
    (
        '[    1.2] VFS: Cannot open root device "sda1" or unknown-block(0,0): error -6',
        "VFS: Cannot open root device *",
    ),
    (" -- System halted", "-- System halted"),
    ("ALERT!  /dev/sda1 does not exist.  Dropping to a shell!", "ALERT!  * does not exist.  Dropping to a shell!"),
]


@pytest.mark.parametrize(("line", "text"), SAID, ids=[line[:40] for line, _ in SAID])
def test_what_consoles_say(line: str, text: str) -> None:
    found = explain(line).messages
    assert (found[0].text if found else "") == text


@pytest.mark.parametrize("id_", sorted(catalogue()))
def test_every_rule_can_be_asked_for(id_: str) -> None:
    assert explain(id_.lower()).rules[0].id == id_


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.text[:40])
def test_messages_are_whole(message: Message) -> None:
    assert message.meaning.endswith((".", ")"))
    assert message.sources
    assert set(message.rules) <= set(catalogue())
    verbs = {command.split()[1] for command in message.verify if command.startswith("mbtool ")}
    assert verbs <= {"check", "inspect", "can-boot", "plan"}
    assert explain(message.text.replace("*", "1")).messages


def test_what_a_rule_prints_is_found_by_its_text() -> None:
    for words in catalogue().values():
        if words.console and words.severity is not None:
            answer = explain(words.console)
            assert answer.messages or answer.rules, words.console


def test_what_check_foretells_is_explained() -> None:

    says = {words for loader in loaders() for _, words in loader.says}
    says |= {refusal.console for refusal in REFUSALS if refusal.console}
    says |= {refusal.start for refusal in REFUSALS if refusal.console is None}
    says |= {xen_versions.parse(f"4.{minor}").unconstructed for minor in range(14, 23)}
    unknown = {text for text in says if text and not (explain(text).messages or explain(text).rules)}
    assert unknown == set()


def test_nothing_is_known() -> None:
    answer = explain("the quick brown fox jumps over the lazy dog")
    assert (answer.rules, answer.messages) == ((), ())
    assert explain("error: no multiboot heeder found").near == ("no multiboot header found",)
    assert "XEN-CODEC" in explain("codec").near


def test_command_line() -> None:
    done = mbtool("explain", "XEN-CODEC")
    assert done.returncode == 0
    assert "4.15" in done.stdout
    assert "ELF: not an ELF binary" in done.stdout
    assert mbtool("explain", "nothing like this is known").returncode == 1
    listed = mbtool("explain").stdout
    assert "DOM0-MEM" in listed
    assert "not xen image" in listed


@pytest.mark.parametrize("question", [["XEN-CODEC"], ["no multiboot header found"], ["xyzzy"], []])
def test_json(question: list[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(mbtool("explain", "--json", *question).stdout), SCHEMA)


@pytest.mark.parametrize("words", [["-- System halted"], ["--", "System", "halted"]])
def test_a_text_that_begins_with_dashes(words: list[str]) -> None:
    assert mbtool("explain", *words).stdout.startswith("Linux: -- System halted")


def test_what_has_nothing_to_do_with_files() -> None:
    assert "ENTRY-FILE" not in {words.id for words in explain("error: shim_lock protocol not found.").rules}
