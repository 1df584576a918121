"""``mbtool plan``: what a loader or Xen will build, before it does; one verb per way to start a kernel."""

from __future__ import annotations

from mbtool.cli.app import group

plan = group(
    "plan",
    {"dom0": "plan_dom0", "linux": "plan_linux", "multiboot": "plan_multiboot"},
    """Say what will be in memory when a kernel starts: regions, entry registers, the structure it is handed.

    --json prints it as one document (mbtool schema plan), --svg draws it.
    """,
)
