"""The tree: nodes, fields, findings."""

from __future__ import annotations

import dataclasses

import pytest

from mbtool.errors import FormatError
from mbtool.model import STREAM_KINDS, Field, Finding, Hex, Node, Severity

LEAF = Node("elf", 3, 10, (Field("entry", Hex(16), 24, 8, "start", b"\x10", True),))
TREE = Node("gzip", 0, 5, (Field("mtime", 0), Field("mtime", 1)), (Node("data", 0, 3), LEAF))


def test_fields_by_name():
    assert LEAF["entry"] == 16
    assert LEAF.get("entry") == 16
    assert LEAF.get("nothing") is None
    assert TREE["mtime"] == 0, "the first of two"
    with pytest.raises(KeyError, match="nothing"):
        LEAF["nothing"]


def test_walk_is_depth_first():
    assert [node.kind for node in TREE.walk()] == ["gzip", "data", "elf"]
    assert TREE.find("elf") is LEAF
    assert TREE.find("gzip") is TREE
    assert TREE.find("pe") is None


def test_nodes_are_values():
    assert LEAF.at(7) == dataclasses.replace(LEAF, offset=7)
    assert LEAF.at(3) == LEAF
    with pytest.raises(dataclasses.FrozenInstanceError):
        LEAF.kind = "pe"  # type: ignore[misc]


def test_hex_is_an_int():
    assert Hex(255) == 255
    assert isinstance(Hex(255), int)
    assert f"{Hex(255):#x}" == "0xff"


def test_finding_of_an_error():
    error = FormatError("bad", source="f", offset=4, field="x.y", expected="1", found="2", remedy="do")
    expected = Finding("DAMAGED", Severity.ERROR, "bad", "x.y", 4, "1", "2", "do")
    assert Finding.of(error) == expected
    assert Finding.of(error, "LIMIT", Severity.INFO) == dataclasses.replace(
        expected, id="LIMIT", severity=Severity.INFO
    )


def test_stream_kinds_are_those_that_are_detected():
    from mbtool.formats.compression import SIGNATURES

    assert {signature.kind for signature in SIGNATURES} == STREAM_KINDS
