"""Structures of the start of day as they lie in dumps of memory, by the names that ``mbtool decode`` gives them.

Each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mbtool.errors import MbtoolError
from mbtool.formats.memory import Memory
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source


def decode(kind: str, dump: Source, at: int, base: int | None) -> Node:
    """The structure at offset ``at`` of a dump; KeyError for a kind that is not in KINDS.

    ``base``: physical address of the dump's first byte, None when nobody knows; what the structure points at is
    then not shown, or looked for as if the dump began at 0. Raises FormatError where there is no such structure.
    """
    try:
        return KINDS[kind](dump, at, base)
    except MbtoolError as error:
        error.source = error.source or dump.name
        raise


def _start_info(dump: Source, at: int, base: int | None) -> Node:
    from mbtool.formats import pv_start_info

    page = dump.part(at, pv_start_info.PAGE)
    try:
        return pv_start_info.inspect(page).at(at)
    except MbtoolError as error:
        if error.offset is not None:
            error.offset += at
        raise


def _hvm_start_info(dump: Source, at: int, base: int | None) -> Node:
    from mbtool.formats import hvm_start_info

    node = hvm_start_info.inspect(dump, at=at, base=base)
    if base is None:
        return node
    info, _ = hvm_start_info.parse(dump.read(at, hvm_start_info.size_of(1)))
    return _with_text(node, Memory(dump, base), info.cmdline_paddr, "cmdline")


def _boot_params(dump: Source, at: int, base: int | None) -> Node:
    from mbtool.formats import linux_boot_params, linux_boot_params_node, linux_setup_data

    page = dump.exact(at, linux_boot_params.SIZE, "boot_params")
    node = linux_boot_params_node.node(page, source=dump.name).at(at)
    if base is None:
        return node
    memory = Memory(dump, base)
    params = linux_boot_params.parse(page)
    node = _with_text(node, memory, params.cmd_line, "cmd_line")
    pieces, findings = linux_setup_data.nodes(memory, params.hdr.setup_data)
    return replace(node, children=(*node.children, *pieces), findings=(*node.findings, *findings))


def _with_text(node: Node, memory: Memory, address: int, name: str) -> Node:
    """The tree with the text at a physical address as a field more; with a finding when it is not there."""
    from mbtool.formats.multiboot1_access import read_string

    if not address:
        return node
    try:
        text = read_string(memory, address, name).decode("utf-8", "backslashreplace")
    except MbtoolError as error:
        finding = Finding.of(error, "TEXT-MISSING", Severity.WARNING)
        return replace(node, findings=(*node.findings, finding))
    return replace(node, fields=(*node.fields, Field(name, text, telling=True)))


def _multiboot1(dump: Source, at: int, base: int | None) -> Node:
    from mbtool.formats import multiboot1_info

    start = base or 0
    node = multiboot1_info.inspect(dump, start, start + at)
    if base is not None:
        return node
    remedy = "say --base ADDRESS: where in memory the dump's first byte was"
    return replace(node, findings=tuple(replace(item, remedy=item.remedy or remedy) for item in node.findings))


def _multiboot2(dump: Source, at: int, base: int | None) -> Node:
    from mbtool.formats import multiboot2_info

    return multiboot2_info.inspect(dump, at)


KINDS: dict[str, Callable[[Source, int, int | None], Node]] = {
    "start_info": _start_info,
    "hvm_start_info": _hvm_start_info,
    "boot_params": _boot_params,
    "multiboot1-info": _multiboot1,
    "multiboot2-info": _multiboot2,
}
