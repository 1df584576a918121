"""Where the command lines of a set are written: findings about one name the line of the file that holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mbtool.check.boot_entry import BootEntry
from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import DOM0, XEN
from mbtool.check.report import Problem

Places = Mapping[str, tuple[str, int]]
"""Which command line: in which file, and on which line (0: not known)."""


def of_entry(entry: BootEntry) -> Places:
    """Those of a boot entry, by the line where the entry begins."""
    return dict.fromkeys((XEN, DOM0), (entry.config, entry.line))


def of_xen_cfg(boot: BootSet) -> Places:
    """Those that a set has from xen.cfg."""
    config = boot.xen_cfg
    if config is None:
        return {}
    told = {
        XEN: (config.line("options"), boot.xen_cmdline == config.options),
        DOM0: (config.line("kernel"), boot.cmdline == config.words("kernel")),
    }
    return {where: (config.name, line.number) for where, (line, used) in told.items() if line and used}


def placed(problems: Iterable[Problem], places: Places) -> Iterator[Problem]:
    """The problems; those with a command line tell where it is written."""
    for problem in problems:
        file, line = places.get(problem.evidence.file, ("", 0))
        yield replace(problem, evidence=replace(problem.evidence, written=file, line=line)) if file else problem
