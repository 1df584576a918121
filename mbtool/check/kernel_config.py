"""What a kernel's configuration says of it: the one beside it, as distributions install it, or that inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats import linux_details
from mbtool.model import Severity
from mbtool.plan.xen_options import Mode
from mbtool.source import MIB, read_file

MAX_CONFIG = 4 * MIB
NEEDED = b"CONFIG_XEN_DOM0=y"


@set_rule("LINUX-NO-DOM0")
def dom0(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without what dom0 needs. Its notes do not tell: they have the dom0 bit all the same."""
    if not boot.on_xen or boot.kernel is None:
        return
    try:
        where, text = _beside(boot, boot.kernel) or _inside(boot, boot.kernel)
    except MbtoolError:
        return  # nobody promised that there is one, and whatever is wrong with the kernel is said elsewhere
    lines = text.splitlines()
    if lines and NEEDED not in lines:
        yield Evidence(
            "the kernel was built without dom0 support",
            boot.kernel.path,
            field=where,
            expected=NEEDED.decode(),
            found="not set",
            severity=None if boot.mode is Mode.PV else Severity.WARNING,  # that one does find ACPI
        )


def _beside(boot: BootSet, kernel: Image) -> tuple[str, bytes] | None:
    """Name and text of the file ``config-RELEASE`` in the kernel's directory."""
    config = Path(kernel.path).with_name(f"config-{boot.release}")
    try:
        return str(config), read_file(config, MAX_CONFIG)
    except MbtoolError:
        return None


def _inside(boot: BootSet, kernel: Image) -> tuple[str, bytes]:
    """The configuration that a kernel built with CONFIG_IKCONFIG carries; b"" when it carries none."""
    place = kernel.place("linux-kernel")
    if place is None or not place.node.children:
        return "", b""
    elf = kernel.dom0_kernel(boot.version).elf
    return "IKCONFIG", linux_details.config(elf, place.start, place.start + place.node.size) or b""
