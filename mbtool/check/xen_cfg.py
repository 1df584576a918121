"""The configuration of Xen's EFI loader: does it name what is there, and say what its author meant?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from mbtool.check.boot_set import BootSet
from mbtool.check.named_files import XenConfig, named, same
from mbtool.check.rule import Evidence, set_rule
from mbtool.check.trees import TreeFile
from mbtool.errors import MbtoolError
from mbtool.formats import xen_cfg
from mbtool.formats.xen_cfg import KEYS, Line
from mbtool.formats.xen_versions import XenVersion
from mbtool.model import Severity

FILES = ("kernel", "ramdisk", "xsm", "ucode", "chain")
"""Keys whose value begins with the name of a file."""
NOT_IN_NAMES = '"*/:<>?|'
"""What firmware takes in no name (EDK II, FatPkg/EnhancedFatDxe/FileName.c, FatFileNameIsValid)."""
INVALID = "ErrCode: 0x8000000000000002"
"""EFI_INVALID_PARAMETER, as Xen prints it."""
CHAINED = "Chained configuration file '"
"""How Xen begins to say that the next one is not there. The name that follows may be anything by then."""
ALIASES = {"initrd": "ramdisk", "module": "ramdisk", "linux": "kernel", "cmdline": "options", "microcode": "ucode"}
"""What other loaders call the same thing."""
NO_KERNEL, EMPTY = "No initial domain kernel specified.", "Allocation failed for "
BYTE_MORE = {(4, 20): 4, (4, 21): 2}
"""By release, the first point release that puts a zero behind a configuration; 4.22 does.

It then asks for memory for one byte more, and reads a last line without a line end.
"""


@set_rule("XEN-CFG-NO-KERNEL")
def no_kernel(boot: BootSet) -> Iterator[Evidence]:
    """The section that is booted names no kernel, or is not there."""
    if boot.xen_cfg is None:
        return
    path, config = boot.xen_cfg.name, boot.xen_cfg.parsed
    section = boot.xen_cfg.section
    if config.get(section, "kernel") or config.get("global", "chain"):
        return
    console = "No Dom0 kernel image specified." if boot.version.release < (4, 17) else NO_KERNEL
    there = section is None or section in config.sections
    yield Evidence(
        (f"section {section} names no kernel" if section else "it names no kernel")
        if there
        else f"there is no section {section}, which default= names",
        path,
        field="kernel" if there else "default",
        expected="kernel=FILE OPTIONS" if there else f"one of: {', '.join(config.sections) or 'no section at all'}",
        found="" if there else str(section),
        console=console if boot.xen_cfg.data or _byte_more(boot.version) else EMPTY,
    )


@set_rule("XEN-CFG-FILE")
def files_there(boot: BootSet) -> Iterator[Evidence]:
    """A file that the booted section names is not there, or cannot be by such a name."""
    for config, line in _used(boot):
        left = line.key == "chain" and config.line("kernel") is not None
        if line.key not in FILES or left:
            continue
        name = named(line)
        odd = next((char for char in name if char in NOT_IN_NAMES), "")
        failed, console, remedy = "Open", INVALID, ""
        if not name:
            message = f"{line.key} has no value: the firmware is asked for a file without a name"
            remedy = f"take the line {line.key}= out"
        elif odd:
            message = f"{line.key} names a file with {odd} in its name, which the firmware refuses"
            remedy = "write a backslash between directories" if odd == "/" else ""
        elif (file := config.find(name)) is None:
            message, console = f"{line.key} names a file that is not there", "Not found"
        elif _empty(file):
            message = f"{line.key} names an empty file, for which the firmware gives no memory"
            failed, console, remedy = "Allocation", "Out of resources", "copy the file again"
        else:
            continue
        unread = line.key == "chain" and console != INVALID
        yield Evidence(
            message,
            config.name,
            offset=line.offset,
            line=line.number,
            field=line.key,
            expected="a file beside the configuration (or, behind a backslash, from the root of its partition)",
            found=name,
            console=CHAINED if unread else f"{failed} failed for {name}: {console}",
            remedy=remedy,
        )


@set_rule("XEN-CFG-CHAIN")
def chained(boot: BootSet) -> Iterator[Evidence]:
    """The configuration is left for another one, whose name Xen reads from memory that it has given back."""
    config = boot.xen_cfg and boot.xen_cfg.chained_by
    while config:
        line = config.parsed.get(xen_cfg.GLOBAL, "chain")
        assert line is not None
        yield Evidence(
            "Xen reads the name of the next file from memory that it has given back to the firmware",
            config.name,
            offset=line.offset,
            line=line.number,
            field=line.key,
            found=line.value,
        )
        config = config.chained_by


@set_rule("XEN-CFG-OTHER-FILE")
def same_files(boot: BootSet) -> Iterator[Evidence]:
    """The configuration names other files than the ones that are checked."""
    for config, line in _used(boot):
        image = {"kernel": boot.kernel, "ramdisk": boot.initrd}.get(line.key)
        found = config.find(named(line)) if image is not None else None
        if image is not None and found is not None and not same(found, image.path):
            yield Evidence(
                f"{line.key} is another file than the one that is checked",
                config.name,
                offset=line.offset,
                line=line.number,
                field=line.key,
                expected=image.path,
                found=named(line),
            )


@set_rule("XEN-CFG-KEY")
def keys_known(boot: BootSet) -> Iterator[Evidence]:
    """A key that the loader never looks for, or that it has found before."""
    for config, line in _used(boot):
        key = line.key.strip()
        if line.key not in KEYS:
            near = (
                [key] if key in KEYS else [ALIASES[key]] if key in ALIASES else get_close_matches(key, KEYS, 1, 0.7)
            )
            yield Evidence(
                "the loader does not know this key",
                config.name,
                offset=line.offset,
                line=line.number,
                field=line.key,
                expected=near[0] if near else ", ".join(KEYS),
                remedy=f"write {near[0]}=, without blanks" if near else "",
                severity=None if near else Severity.INFO,
            )
    for config, section in _sections(boot):
        for first, *more in config.parsed.keys(section).values() if section else ():
            for line in more:
                yield Evidence(
                    "the section has this key twice: the first one counts",
                    config.name,
                    offset=line.offset,
                    line=line.number,
                    field=line.key,
                    expected=first.value,
                    found=line.value,
                    remedy=f"write it all into the first {line.key}=",
                )


@set_rule("XEN-CFG-COMMENT")
def cut_by_comment(boot: BootSet) -> Iterator[Evidence]:
    """A # inside a value: the loader takes the rest for a comment."""
    for config, line in _used(boot):
        if line.rest and line.value and not line.value.endswith(" "):
            yield Evidence(
                "a # inside the value begins a comment",
                config.name,
                offset=line.offset,
                line=line.number,
                field=line.key,
                found=line.rest,
            )


@set_rule("XEN-CFG-LAST-LINE")
def last_line(boot: BootSet) -> Iterator[Evidence]:
    """The last line has no line end, and is not read."""
    if boot.xen_cfg is None:
        return
    config = boot.xen_cfg.parsed
    if not config.ended and config.lines:
        line = config.lines[-1]
        if boot.xen is not None and _byte_more(boot.version):
            return
        yield Evidence(
            "the last line has no line end, and older loaders pass it over",
            boot.xen_cfg.name,
            offset=line.offset,
            line=line.number,
            field=line.key,
            severity=None if boot.xen is not None else Severity.WARNING,
        )


def _empty(file: TreeFile) -> bool:
    """Whether a file has no bytes; False for one that cannot be read."""
    try:
        with file.open() as source:
            return not source.read(0, 1)
    except MbtoolError:
        return False  # said of the file itself


def _byte_more(version: XenVersion) -> bool:
    """Whether Xen gets memory even for a configuration of no bytes."""
    point = re.match(r"\d+\.\d+\.(\d+)", version.text)
    first = BYTE_MORE.get(version.release, 0)
    return version.release >= min(BYTE_MORE) and int(point[1] if point else 0) >= first


def _used(boot: BootSet) -> Iterator[tuple[XenConfig, Line]]:
    """The lines that the loader takes, or would if it knew their keys."""
    for config, section in _sections(boot):
        for line, *_ in config.parsed.keys(section).values():
            yield config, line


def _sections(boot: BootSet) -> Iterator[tuple[XenConfig, str | None]]:
    """[global] and the section that is booted; None, where nobody names one: the loader then looks everywhere."""
    if boot.xen_cfg is not None:
        booted = boot.xen_cfg.section
        for section in dict.fromkeys((xen_cfg.GLOBAL, booted)) if booted else (None,):
            yield boot.xen_cfg, section
