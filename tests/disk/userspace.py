"""A userspace for Debian's kernels: an initrd of busybox that says where it runs, and what it was given."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

PAYLOAD = random.Random(3).randbytes(8 << 20)
SAYS = f"busybox: payload {hashlib.sha256(PAYLOAD).hexdigest()}\n"
"""On the console when the initrd arrived whole."""
END = "busybox: end\n"

# The kernel is told to be quiet meanwhile: what it prints may land inside of a line of ours.
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
kind=$(/bin/busybox cat /sys/hypervisor/guest_type 2>/dev/null || echo none)
sum=$(/bin/busybox sha256sum /payload)
/bin/busybox dmesg -n 1
echo
echo "busybox: hypervisor $kind"
echo "busybox: payload ${sum%% *}"
echo "busybox: command line $(/bin/busybox cat /proc/cmdline)"
echo "busybox: end"
/bin/busybox dmesg -n 7
/bin/busybox poweroff -f
"""


def make_initrd(busybox: Path, cpio: str, folder: Path) -> Path:
    """Write the initrd into the folder; ``cpio`` packs it."""
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(busybox.read_bytes())
    (root / "init").write_text(INIT)
    (root / "payload").write_bytes(PAYLOAD)
    for name in ("bin/busybox", "init"):
        (root / name).chmod(0o755)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    initrd = folder / "initrd.img"
    with initrd.open("wb") as out:
        subprocess.run(
            [cpio, "-o", "-H", "newc"], input="\n".join(names).encode(), stdout=out, cwd=root, check=True
        )
    return initrd
