"""A machine's memory map read from text: what people have at hand when they ask for a plan.

Five kinds are told apart by what stands in them::

    mbtool's own      0x100000 511M usable                            address, size, type: a line each; # comments
    JSON              [{"start": "0x100000", "size": 535822336, "type": "usable"}]   ``mbtool plan --json`` has one
    /proc/iomem       00100000-1ffdffff : System RAM                  read as root, else all addresses are 0
    a Xen boot log    (XEN)  [0000000000100000, 000000001ffdffff] (usable)       behind ``… RAM map:``, or alone
    a Linux boot log  BIOS-e820: [mem 0x0000000000100000-0x000000001ffdffff] usable

Older Xen and Linux print an end that does not count, without brackets. Xen: xen/arch/x86/e820.c,
``print_e820_memory_map``; Linux: arch/x86/kernel/e820.c, ``e820_print_type``, ``e820_type_to_string``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mbtool.errors import InputError, MbtoolError
from mbtool.formats.linux_setup_data_types import E820_TYPES
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.memory import Range

MAX_TEXT = 16 << 20
"""Bytes of a map or boot log that are read at most."""
MAX_ENTRIES = 1024
MAX_TYPE = (1 << 32) - 1
EXPECTED = "ADDRESS SIZE TYPE on each line, JSON, /proc/iomem, or a boot log of Xen or Linux"

NAMES = {name.lower(): number for number, name in E820_TYPES.items()} | {
    "ram": 1,
    "system ram": 1,
    "acpi": 3,
    "acpi tables": 3,
    "nvs": 4,
    "acpi non-volatile storage": 4,
    "unusable memory": 5,
    "persistent memory": 7,
    "persistent memory (legacy)": 12,
}
"""Type numbers by name, in small letters."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = re.compile(r"(0x[0-9a-f]{1,16}|[0-9]{1,20})([KMGT]?)", re.IGNORECASE)
_TYPE_NUMBER = re.compile(r"(?:.*\btype )?([0-9]{1,10})\b")
_XEN_TITLE = re.compile(r"\b[\w-]+ RAM map:\s*$")
_XEN_ENTRY = re.compile(r"\s\[?([0-9a-f]{16})(, | - )([0-9a-f]{16})\]? (?:\((.+?)\)|(type \d+))\s*$")
_LINUX_ENTRY = re.compile(
    r"BIOS-e820: (?:\[mem 0x([0-9a-f]{1,16})(-)0x([0-9a-f]{1,16})\]|([0-9a-f]{16}) - ([0-9a-f]{16})) (.+?)\s*$"
)
_IOMEM_ENTRY = re.compile(r"\s*([0-9a-f]{8,16})-([0-9a-f]{8,16}) : (.+?)\s*$")

_Found = tuple[str, int, int, str]
"""Where it stands, start, end (it does not count), type."""


def parse(data: bytes, source: str) -> E820Map:
    """The map in a text of any kind; the entries stay as they are, in order, exact repetitions left out.

    Raises InputError for what is no memory map, for one of more than MAX_ENTRIES entries or without usable memory.
    """
    text = data.decode("utf-8", "replace")
    if re.match(r"\s*(\{|\[\s*[{\]])", text):
        found = _json(text, source)
    else:
        lines = text.split("\n")
        found = iter(_xen_log(lines) or _linux_log(lines) or _iomem(lines, source) or _plain(lines, source))
    entries: dict[E820Entry, None] = {}
    for place, start, end, kind in found:
        try:
            span = Range(start, end)
        except MbtoolError as error:
            raise InputError(error.problem, source=source, field=place, found=error.found) from error
        entries[E820Entry(span, _type(kind, source, place))] = None
        if len(entries) > MAX_ENTRIES:
            raise InputError(f"the memory map has more than {MAX_ENTRIES} entries", source=source)
    memory = E820Map(tuple(entry for entry in entries if entry.range))
    if not memory.usable():
        raise InputError("there is no usable memory in the map", source=source, expected=EXPECTED)
    return memory


def dump(memory: E820Map) -> str:
    """The map in mbtool's own form."""
    return "".join(
        f"{entry.range.start:#018x} {entry.range.size:#018x} {type_name(entry.type)}\n" for entry in memory.entries
    )


def type_name(number: int) -> str:
    """A type in words that ``parse`` reads back."""
    return E820_TYPES.get(number, f"type {number}")


def _xen_log(lines: list[str]) -> list[_Found]:
    """The first map in the log that has a title; PVH dom0s get maps of their own, further down.

    Lines that were cut out of a log, without any title, are a map too.
    """
    found: list[_Found] = []
    titled = not any(line.rstrip().endswith(" map:") for line in lines)
    for number, line in enumerate(lines, 1):
        entry = _XEN_ENTRY.search(line) if titled else None
        if entry:
            start, to, end, words, bare = entry.groups()
            last = 1 if to == ", " else 0
            found.append((f"line {number}", int(start, 16), int(end, 16) + last, words or bare))
        elif found:
            break
        titled = titled or bool(_XEN_TITLE.search(line))
    return found


def _linux_log(lines: list[str]) -> list[_Found]:
    found = []
    for number, line in enumerate(lines, 1):
        if entry := _LINUX_ENTRY.search(line):
            first, inclusive, last, start, end, words = entry.groups()
            span = (int(first, 16), int(last, 16) + 1) if inclusive else (int(start, 16), int(end, 16))
            kind = words if inclusive else words.strip("()")
            found.append((f"line {number}", *span, kind))
    return found


def _iomem(lines: list[str], source: str) -> list[_Found]:
    entries = [
        (number, match.groups()) for number, line in enumerate(lines, 1) if (match := _IOMEM_ENTRY.match(line))
    ]
    if entries and not any(int(end, 16) for _, (_, end, _) in entries):
        raise InputError(
            "all addresses are 0: they are hidden from ordinary users", source=source, remedy="read it as root"
        )
    return [
        (f"line {number}", int(start, 16), int(last, 16) + 1, name)
        for number, (start, last, name) in entries
        if name.lower() in NAMES  # the rest are devices, and parts of the kernel
    ]


def _plain(lines: Iterable[str], source: str) -> list[_Found]:
    found = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split(maxsplit=2)
        if not words:
            continue
        start = _size(words[0])
        size = _size(words[1]) if len(words) == 3 else None
        if start is None or size is None:
            raise InputError(
                "is no entry of a memory map",
                source=source,
                field=f"line {number}",
                expected=EXPECTED,
                found=repr(line.strip()[:60]),
            )
        found.append((f"line {number}", start, start + size, words[2].strip()))
        if len(found) > MAX_ENTRIES:
            break
    return found


def _json(text: str, source: str) -> Iterator[_Found]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("is no JSON", source=source, found=str(error)[:100]) from error
    if isinstance(document, dict):
        document = document.get("memory_map")
    if not isinstance(document, list):
        raise InputError("no memory map in the JSON", source=source, expected="a list, or memory_map with a list")
    for number, item in enumerate(document):
        place = f"memory_map[{number}]"
        values = item if isinstance(item, dict) else {}
        start, size, end = (_number(values.get(name)) for name in ("start", "size", "end"))
        kind = values.get("type")
        if start is None or (size is None and end is None) or not isinstance(kind, int | str):
            raise InputError(
                "is no entry of a memory map", source=source, field=place, expected="start, size (or end) and type"
            )
        yield place, start, start + size if size is not None else end or 0, str(kind)


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return _size(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(word: str) -> int | None:
    """A number, perhaps with a unit; None when it is none."""
    match = _NUMBER.fullmatch(word)
    return int(match[1], 0 if match[1][:2].lower() == "0x" else 10) * _UNITS[match[2].upper()] if match else None


def _type(words: str, source: str, place: str) -> int:
    number = NAMES.get(words.lower())
    if number is None and (match := _TYPE_NUMBER.match(words)):
        number = int(match[1])
    if number is None or not 0 < number <= MAX_TYPE:
        raise InputError(
            "is no type of memory",
            source=source,
            field=place,
            expected=f"{', '.join(dict.fromkeys(E820_TYPES.values()))} or a number",
            found=repr(words[:40]),
        )
    return number
