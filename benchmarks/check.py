"""Checking files by the thousand: twice the files beside half of them, all cores beside one."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.compare import MBTOOL, Comparison
from mbtool.source import MIB
from tests.check.sets import initrd, vmlinuz
from tests.conftest import ROOT

FILES = 2000
"""Files in the smaller directory."""
CORES = os.cpu_count() or 1
SHARE = 0.6 + 0.4 / CORES
"""Of one core's time: more cores do more, if not all of it."""
PEAK = 64 * MIB
"""Bytes per process, however many files there are."""


def check(work: Path) -> list[Comparison]:
    """``work`` takes the directories. Of every eight files one is damaged, and one is no image."""
    samples = ROOT / "samples"
    kinds = [
        vmlinuz(),
        vmlinuz(payload_length=0x7FFFFFFF),
        initrd(),
        b"no image\n" * 100,
        *((samples / name / f"{name}.elf").read_bytes() for name in ("multiboot1", "multiboot2", "pvh", "pv-dom0")),
    ]
    for name, count in (("some", FILES), ("twice", 2 * FILES)):
        folder = work / name
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05}").write_bytes(kinds[number % len(kinds)])
    return [
        Comparison(
            f"check {2 * FILES} files / {FILES} files", _check(work / "twice"), _check(work / "some"), 2.0, PEAK
        ),
        Comparison(
            f"check {FILES} files on {CORES} cores / on one",
            _check(work / "some"),
            _check(work / "some", 1),
            SHARE,
            PEAK,
        ),
    ]


def _check(folder: Path, jobs: int = CORES) -> tuple[str, ...]:
    """Findings are what these files are for: exit status 1 is a success."""
    command = (*MBTOOL, "check", "--recursive", "--json", "--jobs", str(jobs), str(folder))
    return ("sh", "-c", '"$@" || [ $? = 1 ]', "sh", *command)
