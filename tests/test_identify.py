"""Which format is it: the order of asking, the reasons when none fits, nesting and its limits."""

from __future__ import annotations

import gzip
import sys
from types import ModuleType

import pytest

from mbtool import identify
from mbtool.errors import FormatError, LimitError, UnknownFormatError
from mbtool.formats.context import Context
from mbtool.identify import Format, anything, inspect, magic
from mbtool.model import Node
from mbtool.source import Budget, BytesSource, Limits, Source


@pytest.fixture
def formats(monkeypatch):
    """Two made-up formats: a box (``[``) holds what follows it; a stone (``*``) holds nothing."""

    def box_inspect(source: Source, context: Context) -> Node:
        return Node("box", 0, source.size, (), (context.inside(source.part(1), 1),))

    def stone_inspect(source: Source, context: Context) -> Node:
        if source.read(1, 1) == b"!":
            raise FormatError("cracked", offset=1)
        return Node("stone", 0, 1)

    for name, start, look in (("box", b"[", box_inspect), ("stone", b"*", stone_inspect)):
        module = ModuleType(f"mbtool.formats.{name}")
        module.reject = lambda source, start=start: "" if source.read(0, 1) == start else f"no {start.decode()}"  # type: ignore[attr-defined]
        module.inspect = look  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(
        identify, "FORMATS", (Format("box", "box", magic(b"[", b"(")), Format("stone", "stone", anything))
    )


@pytest.mark.usefixtures("formats")
def test_content_is_placed_in_its_container():
    node = inspect(BytesSource(b"[[*"))
    assert [(one.kind, one.offset, one.size) for one in node.walk()] == [
        ("box", 0, 3),
        ("box", 1, 2),
        ("stone", 1, 1),
    ]


@pytest.mark.usefixtures("formats")
def test_every_format_gives_its_reason():
    with pytest.raises(UnknownFormatError) as error:
        inspect(BytesSource(b"(", "name"))
    assert error.value.reasons == (("box", "no ["), ("stone", "no *"))
    assert error.value.source == "name"


@pytest.mark.usefixtures("formats")
def test_unknown_or_broken_content_does_not_hide_the_container():
    node = inspect(BytesSource(b"[?ab"))
    (child,) = node.children
    assert (child.kind, child.offset, child.size, child["head"]) == ("data", 1, 3, b"?ab")
    assert (child["not_box"], child["not_stone"]) == ("no [", "no *")
    (child,) = inspect(BytesSource(b"[*!")).children
    assert [(finding.id, finding.message) for finding in child.findings] == [("DAMAGED", "cracked")]


@pytest.mark.usefixtures("formats")
def test_depth_is_limited():
    node = inspect(BytesSource(b"[" * 100), Limits(max_depth=3))
    levels = list(node.walk())
    assert [level.kind for level in levels] == ["box"] * 4 + ["data"]
    assert [finding.id for finding in levels[-1].findings] == ["LIMIT"]


@pytest.mark.usefixtures("formats")
def test_size_given_for_content_that_is_not_unpacked():
    context = Context(Budget(), identify._inspect)
    assert context.inside(BytesSource(b"*"), 7, 99) == Node("stone", 7, 99)
    assert context.inside(BytesSource(b"?"), 7, 99).size == 99


def test_limit_met_while_looking_for_the_format():
    def limited(source: Source, context: Context) -> Node:
        raise LimitError("too much")

    child = Context(Budget(), limited).inside(BytesSource(b"abc"), 0)
    assert (child.kind, [finding.id for finding in child.findings]) == ("data", ["LIMIT"])


def test_magic():
    assert magic(b"AB", b"C")(b"ABX")
    assert magic(b"AB", b"C")(b"C")
    assert not magic(b"AB", b"C")(b"A")
    assert magic(b"AB", at=2)(b"..AB")
    assert not magic(b"AB", at=2)(b"AB")
    assert anything(b"")


# --- the real formats


def test_formats_offer_what_is_asked_of_them():
    for one in identify.FORMATS:
        module = one.load()
        assert callable(module.reject)
        assert callable(module.inspect)


@pytest.mark.parametrize("data", [b"", b"\0", b"plain text\n" * 100, bytes(0x9000), b"\xff" * 5000])
def test_unknown(data: bytes):
    """Each known format says why it is not that; most of them without being tried in full."""
    with pytest.raises(UnknownFormatError) as error:
        inspect(BytesSource(data))
    assert [kind for kind, _ in error.value.reasons] == [one.kind for one in identify.FORMATS]
    assert all(reason for _, reason in error.value.reasons)


def test_unknown_content_of_a_stream():
    node = inspect(BytesSource(gzip.compress(b"plain text\n")))
    assert [one.kind for one in node.walk()] == ["gzip", "data"]
    assert node.children[0]["not_elf"] == "no ELF signature at the start"


@pytest.mark.real
def test_debian_xen(xen_gz):
    node = inspect(BytesSource(xen_gz.read_bytes()))
    assert node.kind == "gzip"
    assert node.find("elf") is node.children[0]
