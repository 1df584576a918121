"""Misspelt options on the kernel's command line.

Linux takes any word: what it does not know, the initrd or init may. So only a word is named that nobody is known to
read and that is one slip away from an option of the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import DOM0
from mbtool.check.option_lists import of_linux, option_list, options_of, plain
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError

LIST = "linux_options.toml"
COMMAND_LINE_SIZE = 2048
"""Linux, arch/x86/include/asm/setup.h: bytes that it keeps of the line, with a NUL."""
NEWEST = (6, 12)
"""The newest release in the list."""
SHORTEST = 5
"""Letters of the shortest name that is compared: too many short words lie beside another one."""
DEVICES, OF_DEVICES = ("/dev/", "UUID=", "PARTUUID=", "LABEL=", "PARTLABEL="), ("root", "resume")
"""How names of devices begin, and the options that take one, of whatever length."""
END = ("--", "---")
"""What follows is init's; or, behind three dashes, what Debian's installer hands on to the system it installs."""
RELEASE = re.compile(r"(\d+)\.(\d+)")
WORD = re.compile(r'(?:"[^"]*"?|[^\s"])+')
"""Linux, lib/cmdline.c, next_arg(): blanks between double quotes separate nothing."""
OTHER_KERNELS = ("multiboot1-header", "multiboot2-header")


@set_rule("LINUX-OPTION-MISSPELT")
def misspelt(boot: BootSet) -> Iterator[Evidence]:
    """Words that nobody knows, one slip away from an option of this kernel's."""
    if not boot.cmdline or is_another(boot):
        return
    options = documented(boot.release)
    told = {name: value for name, _, value in (word.partition("=") for word in words(boot.cmdline))}
    for name, value in told.items():
        if "." in name or "/" in name or plain(name) in known():
            continue
        if value.startswith(DEVICES):
            near = [option for option in OF_DEVICES if one_slip(name, option)]
        elif len(name) < SHORTEST:
            continue
        else:
            near = sorted(
                option for option in options if len(option) >= SHORTEST and one_slip(plain(name), plain(option))
            )
        if near:
            yield Evidence(
                f"{name} is no option of Linux, and nearly one",
                DOM0,
                field=name,
                expected=" or ".join(near),
                remedy=f"write {' or '.join(near)}",
            )


def is_another(boot: BootSet) -> bool:
    """Whether the kernel is not Linux: Linux for x86 has no Multiboot header."""
    try:
        return boot.kernel is not None and any(boot.kernel.find(kind) for kind in OTHER_KERNELS)
    except MbtoolError:
        return False  # said of the file itself


def documented(release: str) -> frozenset[str]:
    """The options documented for a kernel (``6.1.0-56-amd64``); for any kernel when the release is "".

    The list knows two releases: of those between them, it says what both say.
    """
    found = RELEASE.match(release)
    if found is None:
        table = option_list(LIST)
        return frozenset((*table["always"], *table["some"]))
    return options_of(LIST, min((int(found[1]), int(found[2])), NEWEST))


@cache
def known() -> frozenset[str]:
    """Every word that some kernel, initrd, init, installer or Xen reads; Xen's may be on the wrong side."""
    xen = option_list("xen_options.toml")
    return of_linux() | {plain(name) for names in (xen["always"], xen["some"]) for name in names}


def words(cmdline: str) -> Iterator[str]:
    """A command line's words, up to the dashes."""
    for word in WORD.findall(cmdline[: COMMAND_LINE_SIZE - 1]):
        if word in END:
            return
        yield word.lstrip('"')


def one_slip(a: str, b: str) -> bool:
    """Whether one character more, less or other, or two neighbours swapped, make the one the other."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    if len(a) > len(b):
        a, b = b, a
    at = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[at:] == b[at + 1 :]
    return a[at + 1 :] == b[at + 1 :] or (a[at + 2 :] == b[at + 2 :] and a[at : at + 2] == b[at + 1] + b[at])
