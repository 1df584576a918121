"""What is wrong with an entry of limine.conf by itself, and with the hashes that it names.

Messages are those of Limine 12; versions before 9 say KERNEL_PATH where these say a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from mbtool.check.rule import Evidence
from mbtool.formats.limine_conf import EFI, HASH, LimineEntry, location
from mbtool.model import Severity
from mbtool.record import record

WORDS = {
    "linux": ("linux", "kernel"),
    "limine": ("limine", "executable"),
    "multiboot": ("multiboot1", "executable"),
    "multiboot1": ("multiboot1", "executable"),
    "multiboot2": ("multiboot2", "executable"),
    **dict.fromkeys(EFI, ("efi", "image")),
}
"""By protocol: how messages begin, and what they call the file."""
WITHOUT_PATH = ("bios", "bios_chainload", "chainload_next", "efi_boot_entry")
PROTOCOLS = (*WORDS, *WITHOUT_PATH)
RESOURCES = ("boot", "hdd", "odd", "guid", "uuid", "fslabel", "tftp")
BLAKE3 = (64, 256)
"""Lengths of hashes that are not looked at."""
HASH_SIZE = 128
ALIKE = 0.6
SHOWN = 200
"""Characters that are shown of a value."""


@record
class Hashed:
    """A file, the BLAKE2b (hex, small letters) that it is to have, and its path as Limine writes it in messages.

    ``severity`` of another one, None as of the rule.
    """

    path: str
    wanted: str
    shown: str
    severity: Severity | None = None


def faults(entry: LimineEntry, config: str) -> Iterator[tuple[str, Evidence]]:
    """Rules that the entry breaks, each with the evidence; ``config``: the file's name."""
    for id_, message, more in _faults(entry):
        yield id_, Evidence(message, config, line=entry.line, **more)


def _faults(entry: LimineEntry) -> Iterator[tuple[str, str, dict[str, Any]]]:
    protocol = entry.protocol
    if protocol is None:
        more: dict[str, Any] = {"console": "Boot protocol not specified for this entry"}
        if entry.bare:  # a place that a tool fills, as limine-snapper-sync does with //Snapshots
            more |= {"severity": Severity.INFO, "remedy": "none is needed, unless it is chosen"}
        yield "ENTRY-PROTOCOL", "no protocol", more
        return
    if protocol not in PROTOCOLS:
        near = get_close_matches(protocol.lower(), [name for name in PROTOCOLS if name != "multiboot"], 1, ALIKE)
        more = {
            "found": protocol[:SHOWN],
            "expected": next(iter(near), "linux, multiboot1, multiboot2, limine or efi"),
        }
        yield "ENTRY-PROTOCOL", "a protocol that is none", {**more, "console": "Unsupported protocol specified."}
    if protocol not in WORDS:
        return
    by, what = WORDS[protocol]
    if entry.path is None:
        said = f"{by}: {what.capitalize()} path not specified"
        yield "ENTRY-PATH", "no path says what is loaded", {"expected": "path", "console": said}
    else:
        yield from _path(entry.path, by, what)
    for path, _ in entry.modules:
        yield from _path(path, by, "module")


def _path(uri: str, by: str, what: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    there, shown = location(uri), uri[:SHOWN]
    if there is None:
        said = f"{by}: Failed to open {what} with path `{shown}`. Is the path correct?"
        message = f"the path of the {what} names no volume"
        yield "ENTRY-PATH", message, {"found": shown, "expected": "boot():/…", "console": said}
    elif there.resource not in RESOURCES:
        said = f"Resource `{there.resource[:SHOWN]}` not valid."
        more = {"found": shown, "expected": ", ".join(RESOURCES), "console": said}
        yield "ENTRY-PATH", f"the path of the {what} begins with a resource that is none", more
    elif there.hash is not None and len(there.hash) not in BLAKE3 and not HASH.fullmatch(there.hash):
        message = f"what stands behind # in the path of the {what} is no hash"
        yield "ENTRY-HASH", message, {"found": there.hash[:SHOWN], "console": _no_hash(there.hash)}


def _no_hash(text: str) -> str:
    if len(text) != HASH_SIZE:
        return "Blake2b hash must be 128 characters long"
    at = next(at for at, character in enumerate(text) if character not in "0123456789abcdefABCDEF")
    return f"Blake2b hash contains invalid character at position {at}"


def hashed(entry: LimineEntry) -> Iterator[Hashed]:
    """The files of an entry that Limine compares with a BLAKE2b.

    One that is said to be on another volume may have the same name as one that is here.
    """
    mild = None if entry.hash_panic else Severity.WARNING
    for uri in (entry.path or "", *(path for path, _ in entry.modules)):
        there = location(uri)
        if there is not None and there.hash is not None and HASH.fullmatch(there.hash):
            severity = Severity.INFO if there.volume else mild
            yield Hashed(there.path, there.hash.lower(), uri.rpartition("#")[0][:SHOWN], severity)


def mismatch(wanted: Hashed, found: str | None, config: str, line: int) -> Iterator[tuple[str, Evidence]]:
    """A file with another hash; ``found``: its BLAKE2b, None when that is not known."""
    if found not in (None, wanted.wanted):
        yield (
            "ENTRY-HASH",
            Evidence(
                f"{wanted.path} is not the file that the hash was made of",
                config,
                line=line,
                expected=wanted.wanted,
                found=found or "",
                console=f"Blake2b hash for URI `{wanted.shown}` does not match!",
                severity=wanted.severity,
            ),
        )
