"""What is wrong with an entry of the Boot Loader Specification by itself, whatever files it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from mbtool.check.rule import Evidence
from mbtool.formats.bls import KEYS, LOADERS, BlsEntry
from mbtool.model import Severity

X86 = ("x64", "ia32")
OTHERS = ("aa64", "arm", "ia64", "loongarch32", "loongarch64", "mips64", "riscv32", "riscv64", "riscv128")
"""Architectures as EFI names them; the specification compares them without case."""
ALIKE = 0.8
SHOWN = 40
"""Characters that are shown of a value."""


def is_foreign(entry: BlsEntry) -> bool:
    """Whether the entry is for machines that are no x86."""
    return entry.architecture.lower() in OTHERS


def faults(entry: BlsEntry, config: str) -> Iterator[tuple[str, Evidence]]:
    """Rules that the entry breaks, each with the evidence; ``config``: the file's name."""
    told = entry.architecture
    if is_foreign(entry):
        more = {"severity": Severity.INFO, "remedy": "check the entry where it belongs"}
        yield "ENTRY-HIDDEN", _evidence(config, f"an entry for {told}", field="architecture", **more)
        return
    slips = {line: (key, near) for line, key in entry.unknown if (near := _near(key))}
    if not entry.loaders:
        line = next((line for line, (_, near) in slips.items() if near in LOADERS), 0)
        key, near = slips.pop(line, ("", "linux, uki or efi"))
        message = "no key says what is to be started"
        yield "ENTRY-HIDDEN", _evidence(config, message, line=line, found=key[:SHOWN], expected=near)
    elif len(entry.loaders) > 1:
        more = {"severity": Severity.WARNING, "remedy": "keep one of them"}
        yield "ENTRY-HIDDEN", _evidence(config, f"{' and '.join(entry.loaders)} in one entry", **more)
    if told and told.lower() not in X86:
        more = {"severity": Severity.WARNING, "remedy": "write x64 or ia32, or leave the line out"}
        message = "no architecture has this name"
        yield "ENTRY-HIDDEN", _evidence(config, message, field="architecture", found=told[:SHOWN], **more)
    for line, (key, near) in slips.items():
        message = "a key that is none, and nearly one"
        yield "ENTRY-KEY", _evidence(config, message, line=line, found=key[:SHOWN], expected=near)


def _near(key: str) -> str:
    """The key that was meant, "" when that is not to be seen; it may end where = or : stands."""
    head = re.split("[=:]", key, maxsplit=1)[0]
    return next(iter(get_close_matches(head.lower(), KEYS, 1, ALIKE)), "")


def _evidence(config: str, message: str, **more: object) -> Evidence:
    return Evidence(message, config, **more)  # type: ignore[arg-type]
