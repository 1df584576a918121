"""Explanations: for every rule and for what consoles really say."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import TypeGuard

import jsonschema
import pytest

from mbtool.check.catalogue import catalogue
from mbtool.check.dom0 import REFUSALS
from mbtool.check.explain import Answer, Message, _bare, explain, messages
from mbtool.check.loaders import loaders
from mbtool.formats import xen_versions
from tests.cli.run import mbtool
from tests.conftest import ROOT

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
    ("Failed to execute /init (error -2)", "Failed to execute * (error *)"),
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
    # the program that a line names is the one that said it
    ("error: ../../grub-core/kern/mm.c:376:out of memory.", "out of memory"),
    ("Loading initial ramdisk ... error: out of memory.", "out of memory"),
    ("GRUB: out of memory", "out of memory"),
    ("xl: Out of memory", "xl: *Out of memory"),
    ("libxl: error: libxl_dom.c:585:libxl__build_dom: Out of memory", "xl: *Out of memory"),
    (
        "xc: error: panic: xg_dom_boot.c:120: xc_dom_boot_mem_init: can't allocate low memory for domain: "
        "Out of memory",
        "can't allocate low memory for domain",
    ),
    (
        "xc: error: panic: xg_dom_core.c:536: xc_dom_chk_alloc_pages: segment kernel too large (0x2f3a > 0x4000 - "
        "0x1000 pages): Out of memory",
        "segment * too large (*",
    ),
    ("[  123.456789] Out of memory: Killed process 123 (apt)", "Out of memory: Killed process *"),
    ("mount: out of memory", ""),
    ("bash: syntax error near unexpected token `}'", ""),
    # shim, SYSLINUX, kexec, Linux
    ("Verification failed: (0x1A) Security Violation", "Verification failed: *Security Violation"),
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


def foretold() -> Iterator[tuple[str, str]]:
    """Rules, and what is to be printed because of them: by the catalogue, by dom0's builder, by the sources."""
    yield from ((words.id, words.console) for words in catalogue().values() if words.console)
    for row in REFUSALS:
        if row.console != "":
            yield row.rule, row.console or row.start
    for path in (ROOT / "mbtool" / "check").glob("*.py"):
        yield from written(ast.parse(path.read_text()))


def written(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The texts in a module's rules, and in what of the module they call, with each rule's id; 1 for a value."""
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    named = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    for function in functions.values():
        ids = [ast.literal_eval(call.args[0]) for call in function.decorator_list if _registers(call)]
        parts = [function]
        for part in parts:
            called = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
            parts += [functions[name] for name in functions if name in called and functions[name] not in parts]
        nodes = [node for part in parts for node in ast.walk(part) if ids]
        pieces = {piece for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parted = (piece.value if isinstance(piece, ast.Constant) else 1 for piece in node.values)
                yield ids[0], "".join(map(str, parted))
            elif node not in pieces and isinstance(node, ast.Constant | ast.Name):
                text = node.value if isinstance(node, ast.Constant) else named.get(node.id)
                yield from [(ids[0], text)] if isinstance(text, str) else []


def _registers(call: ast.expr) -> TypeGuard[ast.Call]:
    """Whether a decorator makes a function a rule whose id stands in the source."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return False
    return call.func.id in ("set_rule", "image_rule") and isinstance(call.args[0], ast.Constant)


def test_a_rule_stands_at_the_message_that_it_foretells() -> None:
    lost = set()
    said = [(message.pattern, _bare(message.text), message) for message in messages()]
    for rule, line in {(rule, _bare(text)) for rule, text in foretold()}:
        whole = [message for pattern, _, message in said if len(line) > 8 and pattern.search(line)]
        begun = [message for _, text, message in said if len(line) > 11 and text.startswith(line)]
        lost |= {(rule, message.text) for message in whole or begun if rule not in message.rules}
    assert lost == set()


def test_what_a_rule_prints_is_found_by_its_text() -> None:
    for words in catalogue().values():
        if words.console and words.severity is not None:
            assert explain(words.console).messages, words.console


def test_what_check_foretells_is_explained() -> None:

    says = {words for loader in loaders() for _, words in loader.says}
    says |= {refusal.console for refusal in REFUSALS if refusal.console}
    says |= {refusal.start for refusal in REFUSALS if refusal.console is None}
    says |= {xen_versions.parse(f"4.{minor}").unconstructed for minor in range(14, 23)}
    unknown = {text for text in says if text and not (explain(text).messages or explain(text).rules)}
    assert unknown == set()


@pytest.mark.parametrize("line", ["qemu-system-x86_64: out of memory", "(XEN) out of memory", "xl: out of memory"])
def test_what_grub_did_not_say(line: str) -> None:
    answer = explain(line)
    assert "GRUB" not in {message.by for message in answer.messages}
    assert answer.rules == ()


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


def test_a_text_without_end() -> None:
    """As when a whole log is asked for: what is known is found in its beginning, what is alike not looked for."""
    assert explain("x y z " * 20000) == Answer()
    assert explain("ELF: not an ELF binary " + "x y z " * 20000).messages
    assert explain("a" * 4000 + " no multiboot header found").messages
    assert not explain("a" * 200000 + " no multiboot header found").messages
