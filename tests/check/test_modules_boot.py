"""Several modules or initrds, judged and booted: Debian's Xen and Linux, and a userspace that says that it runs.

The processor is Intel's, so that Xen looks for the microcode that is here, and has to fail to load it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mbtool.check.report import Problem
from mbtool.check.system import check_system
from mbtool.model import Severity
from mbtool.plan.xen_modules import XSM_MAGIC
from mbtool.source import Limits
from tests import grub
from tests.check.sets import RELEASE
from tests.check.test_modules import CONFIGS, EARLY, INTEL, LINUX_CONFIGS, candidates
from tests.disk.userspace import END, SAYS, make_initrd
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real, pytest.mark.xdist_group("modules")]

OVER = rf"{END}|Hardware Dom0 (halted|crashed|shutdown)|Manual reset required|not syncing: .*\n"
FOUND = "microcode: CPU0 update rev 0x1 to 0x10 failed"
"""Xen has found the microcode, and QEMU's processor takes none."""
CONFIG = "grub/grub.cfg"


@dataclass(frozen=True)
class Row:
    """Modules behind dom0's kernel, Xen's options, the rule that is broken ("" for none); what comes of it."""

    names: str
    words: str = ""
    rule: str = ""
    boots: bool = True
    microcode: bool = False


ROWS = {
    "one": Row("real.img", "ucode=scan", "INITRD-MICROCODE"),
    "microcode-behind": Row("real.img ucode.img"),
    "microcode-behind-scanned": Row("real.img ucode.img", "ucode=scan", microcode=True),
    "microcode-in-front": Row("ucode.img real.img", "", "XEN-INITRD", boots=False),
    "microcode-in-front-scanned": Row(
        "ucode.img real.img", "ucode=scan", "XEN-INITRD", boots=False, microcode=True
    ),
    "microcode-by-number": Row("ucode.bin real.img", "ucode=1", microcode=True),
    "microcode-by-number-from-the-end": Row("real.img ucode.bin", "ucode=-1", microcode=True),
    "archive-by-number": Row("ucode.img real.img", "ucode=1", "INITRD-MICROCODE"),
    "policy-in-front": Row("policy real.img", "", "XEN-INITRD", boots=False),
    "policy-behind": Row("real.img policy", "", "XEN-INITRD"),
    "initrd-by-number": Row("real.img", "ucode=1", "XEN-INITRD", boots=False),
    "microcode-alone": Row("ucode.img", "ucode=scan", "INITRD-NO-INIT", boots=False, microcode=True),
}


@pytest.fixture(scope="module")
def boot(
    tmp_path_factory: pytest.TempPathFactory,
    debian: Callable[[str], Path],
    tool: Callable[[str], str],
    xen_gz: Path,
    vmlinuz: Path,
) -> Path:
    """A boot directory, with Xen unpacked: QEMU unpacks nothing."""
    folder = tmp_path_factory.mktemp("boot")
    made = make_initrd(debian("busybox-static") / "bin/busybox", tool("cpio"), tmp_path_factory.mktemp("initrd"))
    (folder / "real.img").write_bytes(gzip.compress(made.read_bytes(), 1))
    (folder / "xen.gz").write_bytes(gzip.decompress(xen_gz.read_bytes()))
    (folder / "vmlinuz").write_bytes(vmlinuz.read_bytes())
    (folder / "ucode.img").write_bytes(EARLY)
    (folder / "ucode.bin").write_bytes(INTEL)
    (folder / "policy").write_bytes(XSM_MAGIC + bytes(4096))
    (folder / "grub").mkdir()
    return folder


def judged(boot: Path, text: str) -> dict[str, Problem]:
    """What is wrong with the entry X by rule, remarks left out."""
    (boot / CONFIG).write_text(text.replace(f"-{RELEASE}", ""))
    (found,) = [found for name, found in check_system(boot, Limits()) if name.endswith(": X")]
    return {each.id: each for each in found if each.severity is not Severity.INFO}


@pytest.mark.parametrize("name", ROWS)
def test_xen(boot: Path, name: str) -> None:
    row = ROWS[name]
    found = judged(boot, CONFIGS[CONFIG](f"dom0_mem=512M {row.words}", row.names.split()))
    assert row.rule in found if row.rule else not found
    errors = any(each.severity is Severity.ERROR for each in found.values())
    assert errors != row.boots or row.rule == "INITRD-NO-INIT"  # a kernel may do without
    kernel = f"{boot / 'vmlinuz'} console=hvc0 panic=1"
    modules = ",".join([kernel, *(str(boot / module) for module in row.names.split())])
    words = f"console=com1 com1=115200 loglvl=all noreboot dom0_mem=512M {row.words}"
    machine = ["-machine", "q35", "-m", "1024", "-cpu", "SandyBridge", "-kernel", str(boot / "xen.gz")]
    console = run([*machine, "-append", words, "-initrd", modules], until=OVER).console
    assert (SAYS in console) == row.boots
    assert (FOUND in console) == row.microcode
    for each in found.values():
        assert each.console in console
    spare = len(row.names.split()) - ("ucode=1" in row.words or "ucode=-1" in row.words) > 1
    assert (candidates(1) in console) == spare


@pytest.mark.parametrize(
    ("names", "rule"),
    [("ucode.img real.img", ""), ("real.img ucode.img", "MICROCODE-NOT-EARLY"), ("real.img", "")],
)
def test_linux(boot: Path, tool: Callable[[str], str], tmp_path: Path, names: str, rule: str) -> None:
    """GRUB loads all initrds, one behind the other."""
    found = judged(boot, LINUX_CONFIGS[CONFIG](names.split()))
    assert set(found) == ({rule} if rule else set())
    files = [boot / name for name in ("vmlinuz", *names.split())]
    initrds = " ".join(f"(hd1)/{name}" for name in names.split())
    script = ["serial --unit=0", "terminal_output serial"]
    script += ["linux (hd1)/vmlinuz console=ttyS0 panic=1", f"initrd {initrds}", "boot\n"]
    (tmp_path / "script").write_text("\n".join(script))
    modules = ("normal", "serial", "linux")
    disk = grub.disk(tmp_path, tool, "normal (memdisk)/script", [tmp_path / "script"], modules)
    archive = grub.archive(tmp_path / "files.tar", files)
    drives = [f"file={path},format=raw,if=ide" for path in (disk, archive)]
    console = run(["-machine", "pc", "-m", "512", "-drive", drives[0], "-drive", drives[1]], until=OVER).console
    assert SAYS in console
