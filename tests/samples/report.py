"""Read the lines that the sample kernels print."""

from __future__ import annotations

import re


def report(console: str, tag: str) -> dict[str, str]:
    """The values of the lines ``tag: name=value`` by name; AssertionError without the last line, ``tag: end``."""
    lines = re.findall(rf"^{tag}: (.*)$", console, re.MULTILINE)
    assert lines, f"no line of {tag} on the console:\n{console[-2000:]}"
    assert lines[-1] == "end", f"the report of {tag} breaks off at {lines[-1]!r}"
    values = {}
    for line in lines[:-1]:
        name, equals, value = line.partition("=")
        assert equals, f"not a report's line: {line!r}"
        assert name not in values, f"{name} is reported twice"
        values[name] = value
    return values


def number(values: dict[str, str], name: str) -> int:
    """The number reported as ``name``."""
    return int(values[name], 16)


def raw(values: dict[str, str]) -> bytes:
    """The structure's own bytes, from its lines ``raw[0xOFFSET]=``."""
    content = b""
    for name, value in values.items():
        if match := re.fullmatch(r"raw\[0x([0-9a-f]+)\]", name):
            assert int(match[1], 16) == len(content)
            content += bytes.fromhex(value)
    return content


def ranges(values: dict[str, str], array: str, start: str, length: str) -> list[tuple[int, int, int]]:
    """A reported memory map as (first byte, byte behind the last, type)."""
    entries: list[tuple[int, int, int]] = []
    while f"{array}[{len(entries)}].{start}" in values:
        entry = f"{array}[{len(entries)}]."
        first = number(values, entry + start)
        entries.append((first, first + number(values, entry + length), number(values, entry + "type")))
    return entries
