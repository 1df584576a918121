"""Microcode files: what Linux and Xen take from an initrd's early part, or Xen from a file of its own.

The vendors' formats are in ``microcode_intel`` and ``microcode_amd``.
"""

from __future__ import annotations

import re

from mbtool.formats.context import Context
from mbtool.formats.findings import Findings
from mbtool.formats.microcode_amd import MAGIC_BYTES, amd_updates
from mbtool.formats.microcode_intel import HEADER, intel_updates
from mbtool.formats.microcode_shared import iso_date
from mbtool.model import Field, Node
from mbtool.source import Source

_DATE = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])-([012]\d|3[01])")


def reject(source: Source) -> str:
    """Why this is not a microcode file ("" when it is one)."""
    head = source.read(0, HEADER.size)
    if head[:4] == MAGIC_BYTES:
        return ""
    if len(head) < HEADER.size:
        return "shorter than a microcode header (48 bytes)"
    stored = HEADER.values(head)
    if (stored["hdrver"], stored["ldrver"]) != (1, 1) or not _DATE.fullmatch(iso_date(stored["date"])):
        return "neither AMD's container magic nor an Intel update header"
    return ""


def inspect(source: Source, context: Context) -> Node:
    """The file with a node for each update; what is wrong is on the node concerned."""
    findings = Findings()
    if source.read(0, 4) == MAGIC_BYTES:
        vendor, updates = "AMD", amd_updates(source, findings)
    else:
        vendor, updates = "Intel", intel_updates(source, findings)
    dates = sorted(date for node in updates if _DATE.fullmatch(date := str(node["date"])))
    fields = [Field("vendor", vendor, telling=True), Field("updates", len(updates), telling=True)]
    if dates:
        fields += [Field("newest", dates[-1], telling=True), Field("oldest", dates[0])]
    return Node("microcode", 0, source.size, tuple(fields), updates, findings.all())
