"""Several sources as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mbtool.formats.end_to_end import end_to_end
from mbtool.source import BytesSource


@given(st.lists(st.binary(max_size=9), min_size=1), st.integers(0, 60), st.integers(0, 60), st.sampled_from([1, 4]))
def test_any_range(parts: list[bytes], offset: int, size: int, align: int) -> None:
    source = end_to_end([BytesSource(part) for part in parts], "all", align)
    whole = b"".join(part + bytes(-len(part) % align) for part in parts[:-1]) + parts[-1]
    assert (source.size, source.name) == (len(whole), "all")
    assert source.read(offset, size) == whole[offset : offset + size]
    assert b"".join(source.chunks(0, None, 5)) == whole
