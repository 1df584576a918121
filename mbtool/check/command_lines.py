"""Command lines: words that Xen does not know, words on the wrong side, words that contradict each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches

from mbtool.check.boot_set import BootSet
from mbtool.check.option_lists import Release, in_words, of_linux, option_list, options_of, plain
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import InputError
from mbtool.formats.xen_versions import NEWEST, XenVersion
from mbtool.model import Severity
from mbtool.plan import cmdline, xen_options
from mbtool.plan.xen_options import Mode

XEN, DOM0 = "Xen's command line", "the kernel's command line"
OPTIONS = "xen_options.toml"
PLACEHOLDER = "placeholder"
"""First word of Xen's command line in GRUB configurations: for loaders that drop the first word."""
SHORTEST = 4
"""Letters of the shortest option of Xen that is named on Linux' side: shorter words may be anybody's."""
LINUX_ONLY = ("root", "rootflags", "rootfstype", "init", "initrd", "quiet", "splash", "earlyprintk", "rd.break")
"""Options of Linux that mean nothing to Xen."""
LINUX_CONSOLES = ("tty", "ttyS", "hvc")
XEN_CONSOLES = ("com1", "com2", "vga", "dbgp")


def known_options(release: Release) -> frozenset[str]:
    """The options of one Xen release; of the newest known for a newer one."""
    return options_of(OPTIONS, min(release, NEWEST.release))


@set_rule("XEN-OPTION-UNKNOWN")
def unknown_options(boot: BootSet) -> Iterator[Evidence]:
    """Words that this Xen does not know: misspelt, of another release, or meant for dom0."""
    known = known_options(boot.version.release)
    for name in _names(boot):
        if name in known or name == PLACEHOLDER or name in LINUX_ONLY:
            continue
        near = get_close_matches(name, known, 1, 0.8)
        elsewhere = _releases(name)
        yield Evidence(
            f"Xen {boot.version.name} does not know the option {name}",
            XEN,
            field=name,
            expected=near[0] if near and not elsewhere else "",
            remedy=_remedy(name, near, elsewhere, boot.version),
            severity=Severity.WARNING if near or elsewhere else Severity.INFO,
        )


def _names(boot: BootSet) -> Iterator[str]:
    """The names of Xen's options as Xen looks them up, each once."""
    seen = set()
    for raw, value, _ in xen_options.options(boot.options):
        name = raw.decode("utf-8", "replace")
        if value:
            name = name.partition("[")[0]
        if name not in seen and name != "--":
            seen.add(name)
            yield name


def _releases(name: str) -> str:
    """The releases that know an option which not all know, in words; "" for any other."""
    return in_words(option_list(OPTIONS)["some"].get(name, ""))


def _remedy(name: str, near: list[str], elsewhere: str, version: XenVersion) -> str:
    if elsewhere:
        return f"releases {elsewhere} know it: leave it out for {version.name}"
    return f"write {near[0]}" if near else "leave it out, or move it to the kernel's command line"


@set_rule("XEN-OPTION-LONG")
def long_options(boot: BootSet) -> Iterator[Evidence]:
    """Xen copies every option into a buffer of fixed size and forgets the rest."""
    room = xen_options.MAX_PARAM_SIZE - 1
    for word in xen_options.split(boot.options)[0].split(b" "):
        if len(word) > room:
            name = word.partition(b"=")[0][:40].decode("utf-8", "replace")
            yield Evidence(
                "an option is longer than Xen reads",
                XEN,
                field=name,
                expected=f"at most {room} bytes",
                found=str(len(word)),
                remedy="give the option several times, each with a part of its list",
            )


@set_rule("CMDLINE-WRONG-SIDE")
def wrong_side(boot: BootSet) -> Iterator[Evidence]:
    """Words for Xen in the kernel's command line, and the other way round."""
    if not boot.on_xen:
        return
    every = known_options(NEWEST.release) - {PLACEHOLDER}
    of_xen = {name for name in every if len(name) >= SHORTEST and plain(name) not in of_linux()}
    for word in (boot.cmdline or "").split():
        name, _, value = word.partition("=")
        if name in of_xen or (name == "console" and value.split(",")[0] in XEN_CONSOLES):
            yield _misplaced(DOM0, word, "an option of Xen, which Linux does not know", "Xen's command line")
    for raw, value_bytes, _ in xen_options.options(boot.options):
        name, value = raw.decode("utf-8", "replace"), value_bytes.decode("utf-8", "replace")
        console = value.split(",")[0].rstrip("0123456789")
        if name in LINUX_ONLY or (name == "console" and console in LINUX_CONSOLES):
            word = f"{name}={value}" if value else name
            yield _misplaced(XEN, word, "an option of Linux, which Xen does not know", "the kernel's command line")


def _misplaced(where: str, word: str, what: str, place: str) -> Evidence:
    return Evidence(f"{word.partition('=')[0]} is {what}", where, field=word, remedy=f"move it to {place}")


@set_rule("MODE-CONTRADICTED")
def mode(boot: BootSet) -> Iterator[Evidence]:
    """The mode asked for is not the one that Xen's command line says."""
    if boot.asked_mode is None or boot.xen_cmdline is None:
        return
    told = xen_options.dom0_mode(boot.options) or Mode.PV
    if told is not boot.asked_mode:
        yield Evidence(
            f"checked as {boot.asked_mode}, but Xen will start dom0 as {told}",
            XEN,
            field="dom0",
            expected=f"dom0={boot.asked_mode}",
            found=f"dom0={told}" if list(xen_options.custom(boot.options, b"dom0")) else "no dom0= (PV)",
        )


@set_rule("CMDLINE-CUT")
def cut(boot: BootSet) -> Iterator[Evidence]:
    """dom0's command line is longer than Xen or start_info holds."""
    if not boot.on_xen or boot.cmdline is None:
        return
    try:
        line = boot.dom0_cmdline or b""
    except InputError as error:
        yield Evidence.of(error, DOM0)
        return
    wanted = len(os.fsencode(boot.cmdline))
    kept = len(cmdline.guest_cmdline(line)) if boot.mode is Mode.PV else len(line)
    if kept < wanted:
        yield Evidence(
            "dom0's command line is longer than Xen hands on, and is cut",
            DOM0,
            expected=f"at most {kept} bytes",
            found=str(wanted),
        )
