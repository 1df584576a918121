"""Sources: reading by range, streams under a budget, damage kept apart from limits."""

from __future__ import annotations

import io
import os
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbtool import source as module
from mbtool.errors import FormatError, InputError, LimitError
from mbtool.source import (
    GRAIN,
    MIB,
    STEP,
    Budget,
    BytesSource,
    FileSource,
    Limits,
    Source,
    StreamSource,
    base_name,
    open_file,
    open_stdin,
    read_file,
)

DATA = bytes(range(256)) * 40


def stream(data: bytes = DATA, step: int = 1000, budget: Budget | None = None, error: Exception | None = None):
    """A stream of ``data`` in pieces of ``step`` bytes, each from as many packed bytes."""

    def unpack():
        for at in range(0, len(data), step):
            yield data[at : at + step], min(at + step, len(data))
        if error:
            raise error

    return StreamSource(unpack, "stream", budget or Budget())


@pytest.fixture(params=["bytes", "file", "part", "stream", "part of stream"])
def source(request, tmp_path):
    if request.param == "file":
        path = tmp_path / "data"
        path.write_bytes(DATA)
        with open_file(path) as opened:
            yield opened
        return
    longer = b"xx" + DATA + b"yy"
    yield {
        "bytes": BytesSource(DATA),
        "part": BytesSource(longer).part(2, len(DATA)),
        "stream": stream(),
        "part of stream": stream(longer).part(2, len(DATA)),
    }[request.param]


# --- every source


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 1), (0, 0), (5, -1), (-1, 5), (-5, 10), (100, 2000), (0, len(DATA)), (len(DATA) - 1, 1)],
)
def test_reads_like_a_slice(source: Source, offset: int, size: int):
    expected = DATA[offset : offset + size] if offset >= 0 and size > 0 else b""
    assert source.read(offset, size) == expected


@pytest.mark.parametrize("offset", [len(DATA) - 1, len(DATA), len(DATA) + 1, 1 << 70])
@pytest.mark.parametrize("size", [1, 2, 1 << 40, 1 << 70])
def test_reads_end_where_the_data_ends(source: Source, offset: int, size: int):
    if isinstance(source, FileSource) and offset < len(DATA):
        size = min(size, 1 << 40)
    assert source.read(offset, size) == DATA[offset : offset + size]


def test_size(source: Source):
    assert source.size == len(DATA)
    assert source.known_size == source.at_hand == len(DATA)
    assert source.read(7, 3) == DATA[7:10]
    assert source.damage is None


def test_exact(source: Source):
    assert source.exact(len(DATA) - 4, 4, "word") == DATA[-4:]
    with pytest.raises(FormatError) as error:
        source.exact(len(DATA) - 4, 5, "word")
    assert (error.value.offset, error.value.expected, error.value.found) == (len(DATA) - 4, "5 bytes", "4")


def test_part_of_part(source: Source):
    inner = source.part(10, 100).part(5, 1000, "inner")
    assert (inner.name, inner.read(0, 10), inner.size) == ("inner", DATA[15:25], 95)
    assert source.part(len(DATA) + 1).size == 0
    assert source.part(3).read(len(DATA) - 4, 9) == DATA[-1:]


def test_chunks(source: Source):
    assert b"".join(source.chunks()) == DATA
    assert b"".join(source.chunks(5, 17, 4)) == DATA[5:17]
    assert [len(piece) for piece in source.chunks(5, 17, 5)] == [5, 5, 2]
    assert list(source.chunks(10, 5)) == []


@given(
    haystack=st.binary(max_size=60),
    needle=st.binary(min_size=1, max_size=4),
    start=st.integers(0, 70),
    length=st.none() | st.integers(0, 70),
    step=st.integers(1, 9),
)
def test_search_is_find(haystack: bytes, needle: bytes, start: int, length: int | None, step: int):
    class Small(BytesSource):
        search = Source.search

        def chunks(self, start: int = 0, stop: int | None = None, _: int = 0):
            return super().chunks(start, stop, step)

    stop = None if length is None else start + length
    expected = haystack.find(needle, start, len(haystack) if stop is None else stop)
    unpacked, forgetful = stream(haystack, step), stream(haystack, step)
    unpacked.drain()
    forgetful.forget(start + 1)
    forgetful.drain()
    part = BytesSource(b"xx" + haystack + needle).part(2, len(haystack))
    for source in (Small(haystack), BytesSource(haystack), part, stream(haystack, step), unpacked, forgetful):
        assert source.search(needle, start, stop) == expected


def test_search_crosses_pieces(tmp_path):
    data = bytes(STEP - 2) + b"NEEDLE" + bytes(10)
    path = tmp_path / "data"
    path.write_bytes(data)
    with open_file(path) as source:
        assert source.search(b"NEEDLE") == STEP - 2
        assert source.search(b"NEEDLE", 0, STEP + 4) == STEP - 2
        assert source.search(b"NEEDLE", 0, STEP + 3) == -1


# --- streams


def test_stream_is_unpacked_no_further_than_asked():
    lazy = stream()
    assert (lazy.at_hand, lazy.known_size, lazy.packed, lazy.ended) == (0, None, 0, False)
    assert lazy.read(1500, 10) == DATA[1500:1510]
    assert (lazy.at_hand, lazy.known_size, lazy.packed) == (2000, None, 2000)
    part = lazy.part(100, 500)
    assert (part.at_hand, part.known_size, part.size) == (500, 500, 500)
    part = lazy.part(1900, 500)
    assert (part.at_hand, part.known_size, part.streamed) == (100, None, True)
    assert lazy.at_hand == 2000, "nothing was unpacked to answer"


def test_stream_that_breaks_gives_what_came_before():
    broken = stream(DATA[:1500], error=FormatError("broken"))
    assert broken.read(0, 1 << 40) == DATA[:1500]
    assert isinstance(broken.damage, FormatError)
    assert broken.part(10).damage is broken.damage
    assert (broken.ended, broken.size, broken.known_size) == (True, 1500, 1500)


def test_forget_lets_go_and_reading_back_starts_over():
    budget = Budget(Limits(max_output=2 * MIB))
    data = os.urandom(100_000)
    forgetful = stream(data, 5000, budget)
    forgetful.read(0, 50_000)
    forgetful.forget(40_000)
    assert len(forgetful._kept) == 10_000
    assert forgetful.read(40_000, 10) == data[40_000:40_010]
    assert budget.output == 50_000
    assert forgetful.read(0, 10) == data[:10]
    assert budget.output == 55_000, "paid for again"
    assert forgetful.size == 100_000


def test_one_part_of_several_lets_go_of_nothing():
    whole = stream(os.urandom(100_000), 5000)
    whole.part(20_000, 50_000).forget(10_000)
    whole.read(90_000, 10)
    assert whole._start == 0
    whole.part(20_000).forget(10_000)
    assert whole._start == 30_000


def test_forget_what_is_still_to_come():
    ahead = stream()
    ahead.forget(5000)
    assert ahead.at_hand == 0
    assert ahead.read(5500, 10) == DATA[5500:5510]
    assert ahead._start == 5000
    ahead.forget(1 << 40)
    ahead.drain()
    assert (ahead.at_hand, len(ahead._kept), ahead.size) == (len(DATA), 0, len(DATA))
    assert ahead.read(3, 4) == DATA[3:7], "by starting over"
    assert ahead.known_size == len(DATA), "still known"


def test_another_pass_leaves_what_is_known_of_the_first():
    twice = stream()
    twice.drain()
    twice.forget(len(DATA))
    twice.read(0, 1)
    assert (twice.packed, twice.ended, twice.size) == (len(DATA), True, len(DATA))


@pytest.fixture
def small_window(monkeypatch):
    monkeypatch.setattr(StreamSource, "WINDOW", 4096)


@pytest.mark.usefixtures("small_window")
def test_window_slides_over_what_was_read():
    long = stream()
    assert b"".join(long.chunks(step=512)) == DATA
    assert len(long._kept) <= 4096 + 1000
    assert long.read(0, 10) == DATA[:10]


@pytest.mark.usefixtures("small_window")
def test_window_slides_to_a_far_offset():
    """The end of what is asked for is beyond the window of what is kept, but the read itself is small."""
    long = stream()
    long.read(0, 4000)
    assert long.read(3500, 3500) == DATA[3500:7000]
    assert long.read(9000, 4096) == DATA[9000:]


@pytest.mark.usefixtures("small_window")
def test_one_read_larger_than_the_window_is_refused():
    long = stream()
    with pytest.raises(LimitError, match="one read"):
        long.read(0, 6000)
    assert long.damage is None
    assert long.read(0, 2000) == DATA[:2000], "and the stream can still be read"
    assert long.read(len(DATA) - 100, 1 << 40) == DATA[-100:], "the end is near"


@example([("read", 10, 60)])
@given(st.lists(st.tuples(st.sampled_from(["read", "forget"]), st.integers(0, 300), st.integers(0, 60))))
def test_stream_reads_right_whatever_was_done_before(steps):
    class Small(StreamSource):
        WINDOW = 64

    def unpack():
        for at in range(0, 256, 7):
            yield DATA[at : min(at + 7, 256)], at

    small = Small(unpack, "small", Budget())
    for step, offset, size in steps:
        if step == "forget":
            small.forget(offset)
        else:
            assert small.read(offset, size) == DATA[:256][offset : offset + size]
            assert len(small._kept) <= 64 + 7
    assert small.size == 256


# --- limits


def test_output_limit_ends_the_stream_and_is_no_damage():
    budget = Budget(Limits(max_output=5 * GRAIN))
    limited = stream(bytes(20 * GRAIN), GRAIN, budget)
    assert len(limited.read(0, 20 * GRAIN)) == 5 * GRAIN
    assert isinstance(limited.damage, LimitError)
    assert "--max-output" in str(limited.damage)
    assert isinstance(stream(bytes(10), 10, budget).damage, type(None))
    second = stream(bytes(10), 10, budget)
    assert second.read(0, 10) == b"", "the budget is that of all streams together"
    assert isinstance(second.damage, LimitError)


def test_tiny_pieces_cost_as_much_as_a_grain():
    budget = Budget(Limits(max_output=10 * GRAIN))
    tiny = stream(DATA, 1, budget)
    assert tiny.size == 10


def test_ratio_limit_counts_above_the_grace(monkeypatch):
    monkeypatch.setattr(module, "RATIO_GRACE", 50_000)

    def unpack():
        for number in range(1, 100):
            yield bytes(10_000), 10 * number

    bomb = StreamSource(unpack, "bomb", Budget(Limits(max_ratio=400)))
    assert bomb.size == 50_000
    assert isinstance(bomb.damage, LimitError)
    assert "--max-ratio" in bomb.damage.remedy
    assert StreamSource(unpack, "bomb", Budget(Limits(max_ratio=1000))).size == 990_000


# --- files


def test_file_of_any_kind(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"")
    with open_file(path) as empty:
        assert (empty.size, empty.read(0, 10)) == (0, b"")
    path.write_bytes(b"abc")
    assert read_file(path, 3) == b"abc"
    with pytest.raises(LimitError):
        read_file(path, 2)
    assert base_name(BytesSource(b"", "/a/b.c")) == "b.c"


@pytest.mark.parametrize(("name", "problem"), [("missing", "cannot open"), (".", "is a directory")])
def test_what_cannot_be_read(tmp_path, name: str, problem: str):
    with pytest.raises(InputError, match=problem) as error:
        open_file(tmp_path / name)
    assert str(tmp_path) in str(error.value)


def test_endless_device_is_refused():
    with pytest.raises(InputError, match="not a file"):
        open_file("/dev/zero")


def test_file_that_fails_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    answers = [b"ab", OSError(5, "Input/output error")]

    def pread(*_: object):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with open_file(path) as source:
        monkeypatch.setattr(os, "pread", pread)
        with pytest.raises(InputError, match="Input/output error"):
            source.read(0, 6)


def test_file_that_shrinks_gives_less(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    with open_file(path) as source:
        os.truncate(path, 2)
        assert source.read(0, 6) == b"ab"


def test_pipe_is_copied():
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(DATA)

    writer = threading.Thread(target=write)
    writer.start()
    with open_file(f"/proc/self/fd/{reading}") as source:
        writer.join()
        assert source.read(0, len(DATA) + 1) == DATA
    os.close(reading)


def test_pipe_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIPE", 10)
    reading, writing = os.pipe()
    os.write(writing, bytes(11))
    os.close(writing)
    with pytest.raises(LimitError, match="from a pipe"):
        open_file(f"/dev/fd/{reading}")
    os.close(reading)


def test_standard_input(monkeypatch, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(DATA)
    with open(path, "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        with open_stdin() as source:
            assert (source.name, source.size, source.read(0, 4)) == ("-", len(DATA), DATA[:4])


def test_files_in_proc_do_not_tell_their_size():
    with open_file("/proc/version") as source:
        assert source.size == len(source.read(0, 1 << 20)) > 10


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "empty").touch()
    with open_file(tmp_path / "empty") as source:
        assert (source.size, source.read(0, 10)) == (0, b"")
