"""Values of Xen's options: what Xen itself said of each when it was booted (tests/data/xen/values.txt).

Debian's Xen is booted again, without a kernel: it reads its command line, and stops. What it says of the line comes
before its serial console; it is read from the machine's memory, where Xen keeps its log.
"""

from __future__ import annotations

import gzip
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.option_lists import option_list
from mbtool.check.report import Problem, check_set
from mbtool.check.xen_values import VALUES, grammar, values
from tests.check.sets import XEN
from tests.qemu import run

RULE = "XEN-OPTION-VALUE"
SAID = {
    word: frozenset(builds)
    for word, *builds in (line.split() for line in (XEN / "values.txt").read_text().splitlines())
}
"""Word to the builds that refused it."""
DEBIANS = "4.17.7"
FOLLOWED = {"cpufreq=xen"}
"""What releases up to 4.17 call invalid, and follow all the same (setup_cpufreq_option): not worth a word."""
SPARED = {
    # 4.14 hands acpi= on to dom0; the rest came with later point releases of the same line.
    "4.14.5": {
        *("acpi", "acpi=forced", "acpi=verbose"),
        "spec-ctrl=pv,no-hvm,msr-sc=no-pv,rsb=hvm=off,md-clear,ibpb-entry=pv",
        "spec-ctrl=bti-thunk=lfence,ibrs,no-ibpb,stibp,ssbd,psfd,eager-fpu,l1d-flush=off,srb-lock",
    },
    "4.18.0": {
        "spec-ctrl=bhi-dis-s,lock-harden,gds-mit,no-div-scrub,unpriv-mmio,bp-spec-reduce,branch-harden",
        *("spec-ctrl=ibpb-alt", "spec-ctrl=bhb-seq=tsx,verw", "ucode=digest-check"),
    },
    "4.22.0": set[str](),
}
"""What a build refuses, and the rule does not speak of."""
ENOUGH = 850
"""Bytes of a line: Xen keeps 1024."""
REFUSED = re.compile(rb'parameter "([^"\n%]+)" has invalid value "([^"\n%]*)", rc=-\d+!')
UNKNOWN = re.compile(rb'parameter "([^"\n%]+)" unknown!')
STOPPED = "dom0 kernel not specified"


class Said(NamedTuple):
    """What Xen refused (option and value) and did not know, and its console."""

    refused: set[tuple[str, str]]
    unknown: set[str]
    console: str

    def knows(self, word: str) -> bool:
        return word.partition("=")[0].removeprefix("no-") not in self.unknown

    def refuses(self, word: str) -> bool:
        name, _, value = word.partition("=")
        if name.startswith("no-") and not value:
            name = value = "no"  # which Xen writes over the name
        return (name, value) in self.refused


def judged(line: str, xen: Path | str | None = "4.18.0") -> list[Problem]:
    """What the rule says of a line, for an image, the build of a release, or for an unknown one."""
    image = XEN / f"xen-{xen}.gz" if isinstance(xen, str) else xen
    with open_set(xen=image, xen_cmdline=line) as boot:
        return [problem for problem in check_set(boot) if problem.id == RULE]


def blamed(words: Iterable[str], xen: Path | str | None) -> set[str]:
    """Those that the rule speaks of; the image is read once."""
    image = XEN / f"xen-{xen}.gz" if isinstance(xen, str) else xen
    with open_set(xen=image, xen_cmdline="") as boot:
        return {word for word in words if list(values(replace(boot, xen_cmdline=word)))}


@pytest.mark.parametrize("build", SPARED)
def test_rule_and_builds_agree(build: str) -> None:
    words = {word for word, builds in SAID.items() if f"?{build}" not in builds}
    assert len(words) > 200
    assert blamed(words, build) == {word for word in words if build in SAID[word]} - FOLLOWED - SPARED[build]


def test_any_release_will_do_when_it_is_not_known() -> None:
    taken = {
        word for word, builds in SAID.items() if not {DEBIANS, *SPARED} <= {each.lstrip("?") for each in builds}
    }
    assert blamed(taken, None) == set()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("iommu=requird", "required"),
        ("loglvl=alll", "all"),
        ("dom0=phv", "pvh"),
        ("ept=no-pml2", "no-pml"),
        ("spec-ctrl=no-xenn", "no-xen"),
        ("cpufreq=xenn", "xen"),
        ("ucode=scna", "scan"),
        ("console=comm1", "com1"),
        ("iommu=force,verbos", "verbose"),
        ("smt=onn", "on"),
    ],
)
def test_the_word_that_was_meant(word: str, meant: str) -> None:
    (problem,) = judged(word)
    assert problem.severity == "warning"
    assert problem.evidence.expected == meant
    assert problem.remedy == f"write {problem.evidence.field}={meant}"


@pytest.mark.parametrize(
    ("word", "message", "remedy"),
    [
        ("smt=maybe", "smt=maybe", "it takes yes, no"),
        ("numa=no", "numa=no", "it takes on, off, fake=, noacpi"),
        ("iommu", "iommu without a value", "compare it with Xen's documentation of its command line"),
        ("irq_vector_map=none,", "irq_vector_map with an empty part", "it takes none, global, per-device"),
        ("no-iommu=force", "no-iommu=force", "write iommu=force, or no-iommu alone"),
        ("pci=quirks", "pci=quirks", "releases from 4.22 on take it: leave it out"),
    ],
)
def test_what_else_to_write(word: str, message: str, remedy: str) -> None:
    (problem,) = judged(word)
    assert problem.evidence.message == f"Xen 4.18 does not take {message}"
    assert problem.remedy == remedy


@pytest.mark.parametrize(
    ("word", "taken_by"),
    [
        ("spec-ctrl=eager-fpu", {"4.14.5", "4.18.0"}),
        ("spec-ctrl=bhb-entry", {"4.18.0", "4.22.0"}),
        ("iommu=superpages", {"4.18.0", "4.22.0"}),
        ("dom0=pf-fixup", {"4.22.0"}),
        ("ucode=allow-same", {"4.18.0"}),
        ("x2apic-mode=cluster", {"4.14.5", "4.18.0"}),  # 4.14 does not know the option, of which another rule tells
        ("acpi=strict", {"4.14.5"}),  # which hands it to dom0
        ("cet=on", {"4.22.0"}),
    ],
)
def test_by_release(word: str, taken_by: set[str]) -> None:
    """Read off the functions in Xen's branches stable-4.14, stable-4.18 and stable-4.22."""
    assert {xen for xen in ("4.14.5", "4.18.0", "4.22.0") if not judged(word, xen)} == taken_by


def test_what_others_tell_of() -> None:
    """Linux' consoles, options too long for Xen, values that are overwritten, and dom0's words."""
    assert judged("console=ttyS0,115200") == []
    assert judged(f"iommu={'verbose,' * 20}") == []
    assert judged("console=comm1 console=com1") == []
    assert judged("x -- iommu=requird") == []


def test_what_the_console_shows() -> None:
    """Nothing, but for what Xen looks at later: test_xen_says_so."""
    line = "iommu=requird clocksource=pitt console=vga,comm1"
    assert [problem.console for problem in judged(line)] == [
        "",
        "WARNING: Unrecognised clocksource 'pitt'.",
        "Bad console= option 'comm1'",
    ]


def test_the_table_names_options_that_xen_has() -> None:
    options, table = option_list("xen_options.toml"), option_list(VALUES)
    names = {*table, *(name for names in table["kinds"].values() for name in names)} - {"kinds"}
    assert names <= {*options["always"], *options["some"]}
    assert grammar("kinds") is None


def lines(words: Iterable[str]) -> Iterator[list[str]]:
    """The words on as many lines as are needed; alone what would hide what Xen says of others."""
    line: list[str] = []
    for word in words:
        if "loglvl" in word or re.fullmatch("no-[^=]+", word):
            yield [word]
        elif len(" ".join([*line, word])) > ENOUGH:
            yield line
            line = [word]
        else:
            line.append(word)
    yield line


@pytest.fixture(scope="module")
def xen(tmp_path_factory: pytest.TempPathFactory, xen_gz: Path) -> Path:
    """QEMU unpacks nothing."""
    path = tmp_path_factory.mktemp("xen") / "xen"
    path.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    return path


def ask(xen: Path, words: list[str], folder: Path) -> Said:
    """Boot Xen with the words."""
    memory = folder / "memory"
    backed = f"memory-backend-file,id=memory,size=128M,share=on,mem-path={memory}"
    machine = ["-machine", "q35,memory-backend=memory", "-m", "128", "-object", backed, "-kernel", str(xen)]
    line = " ".join(["console=com1 com1=115200 noreboot", *words])
    console = run([*machine, "-append", line], until=STOPPED).console
    with memory.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        refused = {(each[1].decode(), each[2].decode()) for each in REFUSED.finditer(content)}
        unknown = {each[1].decode() for each in UNKNOWN.finditer(content)}
    memory.unlink()
    return Said(refused, unknown, console)


@pytest.mark.boot
@pytest.mark.real
def test_debians_xen_says_what_is_recorded(tmp_path: Path, xen: Path) -> None:
    told: dict[str, str] = {}
    for line in lines(SAID):
        said = ask(xen, line, tmp_path)
        told |= {
            word: DEBIANS if said.refuses(word) else "" if said.knows(word) else f"?{DEBIANS}" for word in line
        }
    assert told == {
        word: next((build for build in builds if DEBIANS in build), "") for word, builds in SAID.items()
    }
    words = {word for word in SAID if not told[word].startswith("?")}
    assert blamed(words, xen) == {word for word in words if told[word]} - FOLLOWED


def variants() -> Iterator[str]:
    """The words of the table, and what is made of them by one slip or another."""
    table = option_list(VALUES)
    for name in table:
        told = grammar(name)
        if told is None or told.last or "loglvl" in name:
            continue
        for form in told.forms(None):
            word = re.sub("=<(bool|false)>$", "", form)
            word = re.sub("<[a-z]+>", "1", word).rstrip("*")
            for value in (
                word,
                f"no-{word}",
                f"{word}x",
                word[:-1],
                word[1:],
                f"{word}=on",
                f"{word}:x",
                f"x,{word}",
            ):
                yield f"{name}={value}"


@pytest.mark.boot
@pytest.mark.real
def test_no_value_that_debians_xen_takes_is_blamed(tmp_path: Path, xen: Path) -> None:
    words = list(dict.fromkeys(variants()))
    assert len(words) > 1000
    told = {word: said for line in lines(words) for said in [ask(xen, line, tmp_path)] for word in line}
    known = [word for word in words if told[word].knows(word)]
    found = blamed(known, xen)
    assert [word for word in found if not told[word].refuses(word)] == []
    missed = [word for word in known if told[word].refuses(word) and word not in found]
    assert len(missed) < len(known) / 20  # where the table would rather be silent


@pytest.mark.boot
@pytest.mark.real
def test_xen_says_so(tmp_path: Path, xen: Path) -> None:
    """Of console= on its console; of the rest not."""
    words = ["iommu=requird", "console=com1,comm1"]
    said = ask(xen, words, tmp_path)
    (console,) = [problem.console for problem in judged(" ".join(words), xen) if problem.console]
    assert console in said.console
    assert "has invalid value" not in said.console
    assert said.refuses("iommu=requird")
