"""Entries of limine.conf that Limine does not start, and what it prints then.

What is expected was printed by Limine 8.2.0 (limine-bios-cd.bin in QEMU, on the first serial port) for each of
these entries, with kernel_path for path; where Limine 12 has other words in its sources, it is those.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mbtool.check.explain import explain
from mbtool.check.report import Problem
from mbtool.check.system import check_system
from mbtool.errors import InputError
from mbtool.source import Limits
from tests.check.test_grub_verdicts import MB1

GOOD = hashlib.blake2b(MB1).hexdigest()
P = "path: boot():/kernel"
MULTIBOOT = "protocol: multiboot1\n"
ASK = "hash_mismatch_panic: no\n"
MISMATCH = "Blake2b hash for URI `boot():/kernel` does not match!"
NO_PROTOCOL = "Boot protocol not specified for this entry"
UNSUPPORTED = "Unsupported protocol specified."
SHORT = "Blake2b hash must be 128 characters long"
STARTED = ""

CASES: dict[str, tuple[str, str, str]] = {
    # name: the entry behind its title, rule, console
    "good": (MULTIBOOT + P, "", STARTED),
    "hash": (f"{MULTIBOOT}{P}#{GOOD}", "", STARTED),
    "hash-capital": (f"{MULTIBOOT}{P}#{GOOD.upper()}", "", STARTED),
    "names-capital": ("PROTOCOL: multiboot1\nKernel_Path: boot():/kernel", "", STARTED),
    "hash-other": (f"{MULTIBOOT}{P}#{'0' * 128}", "ENTRY-HASH", MISMATCH),
    "hash-module": (f"{MULTIBOOT}{P}\nmodule_path: boot():/kernel#{'0' * 128}", "ENTRY-HASH", MISMATCH),
    "hash-asked-too-late": (f"{MULTIBOOT}{P}#{'0' * 128}\n{ASK}", "ENTRY-HASH", MISMATCH),
    "hash-short": (f"{MULTIBOOT}{P}#abc", "ENTRY-HASH", SHORT),
    "no-protocol": (P, "ENTRY-PROTOCOL", NO_PROTOCOL),
    "protocol-blank": (f"protocol : multiboot1\n{P}", "ENTRY-PROTOCOL", NO_PROTOCOL),
    "protocol-equals": (f"protocol=multiboot1\n{P}", "ENTRY-PROTOCOL", NO_PROTOCOL),
    "protocol-capital": (f"protocol: Multiboot1\n{P}", "ENTRY-PROTOCOL", UNSUPPORTED),
    "protocol-unknown": (f"protocol: multiboot3\n{P}", "ENTRY-PROTOCOL", UNSUPPORTED),
    # multiboot1: KERNEL_PATH not specified
    "no-path": (MULTIBOOT, "ENTRY-PATH", "multiboot1: Executable path not specified"),
    # multiboot1: Failed to open kernel with path `/kernel`. Is the path correct?
    "path-alone": (
        f"{MULTIBOOT}path: /kernel",
        "ENTRY-PATH",
        "multiboot1: Failed to open executable with path `/kernel`. Is the path correct?",
    ),
    "module-alone": (
        f"{MULTIBOOT}{P}\nmodule_path: /x",
        "ENTRY-PATH",
        "multiboot1: Failed to open module with path `/x`. Is the path correct?",
    ),
    "resource": (f"{MULTIBOOT}path: disk():/kernel", "ENTRY-PATH", "Resource `disk` not valid."),
    "resource-capital": (f"{MULTIBOOT}path: Boot():/kernel", "ENTRY-PATH", "Resource `Boot` not valid."),
}
SOURCES: dict[str, tuple[str, str, str]] = {
    # as above, by the sources of Limine 12 alone
    "hash-no-digit": (
        f"{MULTIBOOT}{P}#00z{'0' * 125}",
        "ENTRY-HASH",
        "Blake2b hash contains invalid character at position 2",
    ),
    "blake3": (f"{MULTIBOOT}{P}#{'0' * 64}", "", ""),
    "linux": ("protocol: linux", "ENTRY-PATH", "linux: Kernel path not specified"),
    "efi": ("protocol: uefi\nkernel_path: boot():/kernel", "ENTRY-PATH", "efi: Image path not specified"),
    "limine": (f"protocol: limine\n{P}", "", ""),
    "limine-gone": ("protocol: limine\npath: boot():/gone", "ENTRY-FILE", ""),
    "module-gone": (f"protocol: limine\n{P}\nmodule_path: boot():/gone", "ENTRY-FILE", ""),
}


def told(folder: Path, text: str) -> dict[str, list[Problem]]:
    """Problems by the title of the entry."""
    (folder / "kernel").write_bytes(MB1)
    (folder / "limine.conf").write_text(text)
    return {name.rpartition(": ")[2]: found for name, found in check_system(folder, Limits())}


@pytest.mark.parametrize("name", [*CASES, *SOURCES])
def test_what_is_foretold(tmp_path: Path, name: str) -> None:
    entry, rule, console = {**CASES, **SOURCES}[name]
    found = told(tmp_path, f"timeout: 0\n/It\n{entry}\n")["It"]
    assert [(each.id, each.console) for each in found if each.severity == "error"] == [(rule, console)] * bool(rule)
    if console:
        assert rule in {id_ for message in explain(f"PANIC: {console}").messages for id_ in message.rules}


def test_limine_asks_where_it_is_told_to(tmp_path: Path) -> None:
    """``WARNING: … Press Y to continue, press any other key to return to menu...``."""
    (found,) = told(tmp_path, f"{ASK}/It\n{CASES['hash-other'][0]}\n")["It"]
    assert (found.id, str(found.severity), found.console) == ("ENTRY-HASH", "warning", MISMATCH)


def test_the_hash_is_of_the_file_as_it_lies_there(tmp_path: Path) -> None:
    """Of several pieces, and read once for all entries."""
    big = bytes(3 << 20) + b"x"
    (tmp_path / "big").write_bytes(big)
    text = "".join(
        f"/{at}\nprotocol: limine\npath: $boot():/big#{hashlib.blake2b(big).hexdigest()}\n" for at in "ab"
    )
    assert told(tmp_path, text) == {"a": [], "b": [], str(tmp_path): []}


def test_a_protocol_that_was_meant(tmp_path: Path) -> None:
    for protocol, meant in (("Linux", "linux"), ("multiboot3", "multiboot2"), ("EFI", "efi")):
        (found,) = told(tmp_path, f"/It\nprotocol: {protocol}\n{P}\n")["It"]
        assert found.evidence.expected == meant


@pytest.mark.parametrize(
    "text",
    [
        "/It\nprotocol: bios\ndrive: 1\n",
        "/It\nprotocol: efi_boot_entry\nentry: x\n",
        "/It\nif_arch: aarch64 riscv64\nprotocol: linux\npath: boot():/gone\n",
        "timeout: 5\n",
    ],
)
def test_nothing_to_look_into(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no boot entries"):
        told(tmp_path, text)


def test_directories_start_nothing(tmp_path: Path) -> None:
    text = (
        f"/+Systems\ncomment: x\n//One\n{MULTIBOOT}{P}\n//More\n///Two\nif_arch: x86-64\n{MULTIBOOT}{P}\n/Empty\n"
    )
    found = told(tmp_path, text)
    assert list(found)[:3] == ["Systems>One", "Systems>More>Two", "Empty"]
    assert [(each.id, str(each.severity)) for each in found["Empty"]] == [("ENTRY-PROTOCOL", "info")]


def test_the_configuration_of_older_versions(tmp_path: Path) -> None:
    """limine.cfg, renamed."""
    (found,) = told(tmp_path, "/It\nPROTOCOL=linux\nKERNEL_PATH=boot:///kernel\n")["It"]
    assert (found.id, str(found.severity)) == ("ENTRY-PROTOCOL", "error")


@pytest.mark.parametrize(
    "resource", ["uuid(1)", "guid(1)", "fslabel(x)", "hdd(1:2)", "odd(1:)", "tftp()", "tftp(10.0.0.1)", "boot(2)"]
)
def test_other_volumes(tmp_path: Path, resource: str) -> None:
    """A file that is not here, and is not to be here, is none that is missing."""
    text = f"/Kernel\n{MULTIBOOT}path: {resource}:/gone\n"
    text += f"/Module\n{MULTIBOOT}{P}\nmodule_path: {resource}:/gone\n"
    text += f"/Here\n{MULTIBOOT}path: boot():/gone\n/Both\n{MULTIBOOT}path: {resource}:/kernel#{GOOD}\n"
    text += f"/Own\n{MULTIBOOT}{P}\nmodule_path: boot():/gone\n"
    ids = {name: [each.id for each in problems] for name, problems in told(tmp_path, text).items()}
    assert (ids["Module"], ids["Here"], ids["Own"]) == (["ENTRY-ELSEWHERE"], ["ENTRY-FILE"], ["ENTRY-FILE"])
    assert ids["Both"] == []
    (found,) = told(tmp_path, text.partition("/Module")[0])["Kernel"]
    assert found.id == "ENTRY-ELSEWHERE"


def test_a_file_of_the_same_name_on_another_volume(tmp_path: Path) -> None:
    entry = f"{MULTIBOOT}path: uuid(1):/kernel#{'0' * 128}"
    (found,) = told(tmp_path, f"/It\n{entry}\n")["It"]
    assert (found.id, str(found.severity)) == ("ENTRY-HASH", "info")
