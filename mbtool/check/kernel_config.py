"""What the configuration that lies beside a kernel, as distributions install it, says of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mbtool.check.boot_set import BootSet
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import Severity
from mbtool.plan.xen_options import Mode
from mbtool.source import MIB, read_file

MAX_CONFIG = 4 * MIB
NEEDED = b"CONFIG_XEN_DOM0=y"


@set_rule("LINUX-NO-DOM0")
def dom0(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without what dom0 needs. Its notes do not tell: they have the dom0 bit all the same."""
    if not boot.on_xen or boot.kernel is None or not boot.release:
        return
    config = Path(boot.kernel.path).with_name(f"config-{boot.release}")
    try:
        lines = read_file(config, MAX_CONFIG).splitlines()
    except MbtoolError:
        return  # nobody promised that it is there
    if lines and NEEDED not in lines:
        yield Evidence(
            "the kernel was built without dom0 support",
            boot.kernel.path,
            field=str(config),
            expected=NEEDED.decode(),
            found="not set",
            severity=None if boot.mode is Mode.PV else Severity.WARNING,  # that one does find ACPI
        )
