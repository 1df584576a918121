"""The derivation beside Xen's own libelf: the same values and the same words for many odd kernels.

The answers were recorded from libelf itself (tests/data/libelf/make_vectors.py).
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from mbtool.formats import xen_versions
from mbtool.formats.dom_parms import DomParms, PaeMode
from mbtool.formats.elf import parse_elf
from mbtool.formats.xen_dom_parms import attempt_derive
from mbtool.source import BytesSource

VECTORS = Path(__file__).parent.parent / "data" / "libelf" / "vectors.json.xz"
UNSET, UNSET32 = 2**64 - 1, 2**32 - 1
PAE = [PaeMode.NO, PaeMode.YES, PaeMode.EXTENDED_CR3, PaeMode.BIMODAL]
"""In the order of enum xen_pae_type."""
BEFORE_ADDRESSES = ("ERROR: Not a Xen", "ERROR: Will only", "ERROR: Xen will", "ERROR: ELF_PADDR_OFFSET")
"""Refusals after which libelf computes no addresses."""


@pytest.fixture(scope="module")
def vectors() -> Any:
    return json.loads(lzma.decompress(VECTORS.read_bytes()))


def as_libelf_has_it(parms: DomParms, name: str) -> int | str:
    """A value in the form of struct elf_dom_parms."""
    if name.startswith("bsd_symtab_p"):
        start, end = parms.bsd_symtab_range or (0, 0)
        return start if name.endswith("pstart") else end
    value = getattr(parms, name)
    if value is None:
        return UNSET32 if name.startswith("phys_") else UNSET
    if name == "pae":
        return PAE.index(value)
    return value if isinstance(value, str) else int(value)


@pytest.mark.parametrize("version", ["4.14", "4.16", "4.22"])
def test_libelf_agrees(vectors, version):
    row = xen_versions.parse(version)
    seen: set[str] = set()
    for image, answers in zip(vectors["images"], vectors["answers"][version], strict=True):
        data = bytes.fromhex(image)
        for hvm, answer in zip((False, True), answers, strict=True):
            attempt = attempt_derive(parse_elf(BytesSource(data)), hvm=hvm, version=row, size=len(data))
            words = attempt.refusal.problem if attempt.refusal else ""
            if not answer:  # elf_init refused the file
                assert words.startswith("ELF: ")
                seen.add("init")
                continue
            assert bool(words) == bool(answer["refused"])
            message = answer.pop("message")
            seen.add(message)
            if message.startswith(BEFORE_ADDRESSES):
                assert words == message
                continue
            if answer.pop("refused") and not message:
                assert words.startswith("Could not construct")  # libelf gave up without a word
                continue
            assert words == message
            assert {name: as_libelf_has_it(attempt.parms, name) for name in answer} == answer
    assert len(seen) > 6, "all kinds of outcome are among the vectors"
