"""``mbtool plan``: what a loader or Xen will build, before it does; one verb per way to start a kernel."""

from __future__ import annotations

from mbtool.cli.app import group

plan = group(
    "plan",
    {"dom0": "plan_dom0", "linux": "plan_linux", "multiboot": "plan_multiboot"},
    """Say what will be in memory when a kernel starts.

    Regions, entry registers, the structure that the kernel is handed. --json prints it as one document (mbtool
    schema plan), --svg draws it.

    \b
    Examples:
      mbtool plan linux --kernel vmlinuz --initrd initrd.img --e820 qemu-q35:1024M
      mbtool plan multiboot --kernel xen.gz --module vmlinuz:console=hvc0 --module initrd.img --svg xen.svg
      mbtool plan dom0 --kernel vmlinuz --initrd initrd.img --xen xen.gz --e820 xen-boot.log
    """,
)
