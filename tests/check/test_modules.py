"""Boot entries with several modules or initrds: which of them is the initrd, and where microcode is looked for."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.report import Problem, check_set
from mbtool.check.system import check_system
from mbtool.formats.cpio import Member, build_cpio
from mbtool.formats.microcode_intel import IntelUpdate, build_intel
from mbtool.plan.xen_modules import XSM_MAGIC
from mbtool.source import BytesSource, Limits
from tests.check.sets import RELEASE, XEN, ids, initrd, problems, vmlinuz
from tests.formats.test_microcode import AMD

INTEL = build_intel(IntelUpdate(rev=0x10, date=0x07062024, sig=0x206A1, pf=1, data=bytes(2000)))
EARLY = build_cpio([Member("kernel/x86/microcode/GenuineIntel.bin", INTEL)])
FILES = {
    "real.img": initrd(),
    "both.img": EARLY + initrd(),
    "ucode.img": EARLY,
    "amd.img": build_cpio([Member("kernel/x86/microcode/AuthenticAMD.bin", AMD)]),
    "ucode.bin": INTEL,
    "packed.img": gzip.compress(EARLY, mtime=0),
    "xenpolicy-4.18": XSM_MAGIC + bytes(100),
    "policy": XSM_MAGIC + bytes(100),
    "junk": b"nothing at all " * 100,
    "empty": b"",
}
CONFIGS = {
    "grub/grub.cfg": lambda xen, names: (
        f"menuentry X {{\nmultiboot2 /xen.gz placeholder {xen}\nmodule2 /vmlinuz-{RELEASE} placeholder ro\n"
        + "".join(f"module2 --nounzip /{name}\n" for name in names)
        + "}\n"
    ),
    "grub2/grub.cfg": lambda xen, names: (
        f"menuentry X {{\nmultiboot /xen.gz placeholder {xen}\nmodule /vmlinuz-{RELEASE} placeholder ro\n"
        + "".join(f"module /{name}\n" for name in names)
        + "}\n"
    ),
    "syslinux/syslinux.cfg": lambda xen, names: (
        f"LABEL X\nCOM32 mboot.c32\nAPPEND ../xen.gz {xen} --- ../vmlinuz-{RELEASE} ro"
        + "".join(f" --- ../{name}" for name in names)
        + "\n"
    ),
    "limine.conf": lambda xen, names: (
        f"/X\nprotocol: multiboot2\npath: $boot():/xen.gz\ncmdline: placeholder {xen}\n"
        f"module_path: boot():/vmlinuz-{RELEASE}\nmodule_string: placeholder ro\n"
        + "".join(f"module_path: boot():/{name}\n" for name in names)
    ),
}
LINUX_CONFIGS = {
    "grub/grub.cfg": lambda names: (
        f"menuentry X {{\nlinux /vmlinuz-{RELEASE} ro\ninitrd {' '.join('/' + name for name in names)}\n}}\n"
    ),
    "loader/entries/x.conf": lambda names: (
        f"title X\nlinux /vmlinuz-{RELEASE}\noptions ro\n" + "".join(f"initrd /{name}\n" for name in names)
    ),
    "syslinux/syslinux.cfg": lambda names: (
        f"LABEL X\nLINUX ../vmlinuz-{RELEASE}\nAPPEND ro\nINITRD {','.join('../' + name for name in names)}\n"
    ),
    "limine.conf": lambda names: (
        f"/X\nprotocol: linux\npath: boot():/vmlinuz-{RELEASE}\ncmdline: ro\n"
        + "".join(f"module_path: boot():/{name}\n" for name in names)
    ),
}


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    (tmp_path / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def entry(boot: Path, config: str, text: str, xen: str = "4.18.0") -> list[Problem]:
    """What is wrong with the entry X of a configuration."""
    (boot / "xen.gz").write_bytes((XEN / f"xen-{xen}.gz").read_bytes())
    (boot / config).parent.mkdir(parents=True, exist_ok=True)
    (boot / config).write_text(text)
    (found,) = [found for name, found in check_system(boot, Limits()) if name.endswith(": X")]
    return found


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("names", "words", "wanted"),
    [
        ("real.img", "", set()),
        ("real.img ucode.img", "", set()),
        ("real.img ucode.img", "ucode=scan", set()),
        ("real.img amd.img ucode.img", "ucode=scan", set()),
        ("both.img", "ucode=scan", set()),
        ("real.img", "ucode=scan", {"INITRD-MICROCODE"}),
        ("real.img packed.img", "ucode=scan", {"INITRD-MICROCODE", "MICROCODE-NOT-EARLY"}),
        ("ucode.img real.img", "", {"XEN-INITRD", "INITRD-NO-INIT"}),
        ("ucode.img amd.img real.img", "ucode=scan", {"XEN-INITRD", "INITRD-NO-INIT"}),
        ("ucode.img", "ucode=scan", {"INITRD-NO-INIT"}),
        ("ucode.bin real.img", "ucode=1", set()),
        ("real.img ucode.bin", "ucode=-1", set()),
        ("real.img ucode.bin", "", set()),
        ("ucode.img real.img", "ucode=1", {"INITRD-MICROCODE"}),  # 4.18 takes no archive there
        ("real.img", "ucode=1", {"INITRD-MICROCODE", "XEN-INITRD"}),
        ("real.img ucode.bin", "ucode=3", {"INITRD-MICROCODE"}),
        ("real.img real.img", "", {"XEN-INITRD"}),
    ],
)
def test_xens_modules(boot: Path, config: str, names: str, words: str, wanted: set[str]) -> None:
    assert ids(entry(boot, config, CONFIGS[config](words, names.split()))) == wanted


def said(found: list[Problem], rule: str) -> list[tuple[str, str, str]]:
    """Severity, message and console of the evidence for a rule."""
    return [(each.severity, each.evidence.message, each.console) for each in found if each.id == rule]


def candidates(number: int) -> str:
    return f"Multiple initrd candidates, picking module #{number}"


@pytest.mark.parametrize(
    ("names", "words", "severity", "message", "console"),
    [
        ("ucode.img real.img", "", "error", "which has no init", candidates(1)),
        ("real.img", "ucode=1", "error", "dom0 gets no initrd", ""),
        ("junk real.img", "", "error", "which has no init", candidates(1)),
        ("empty real.img", "", "error", "which has no init", candidates(1)),
        ("ucode.bin ucode.img real.img", "ucode=1", "error", "which has no init", candidates(2)),
        ("real.img ucode.img", "", "info", "module #2 is microcode, which Xen does not look for", candidates(1)),
        ("real.img ucode.img", "ucode=scan", "info", "finds all the same", candidates(1)),
        ("real.img ucode.bin", "", "info", "takes by its number only", candidates(1)),
        ("real.img packed.img", "ucode=scan", "info", "does not unpack", candidates(1)),
        ("real.img both.img", "", "warning", "module #2 is nothing that Xen uses", candidates(1)),
    ],
)
def test_what_is_said(boot: Path, names: str, words: str, severity: str, message: str, console: str) -> None:
    config = "grub/grub.cfg"
    ((how_bad, text, printed),) = said(entry(boot, config, CONFIGS[config](words, names.split())), "XEN-INITRD")
    assert (how_bad, printed) == (severity, console)
    assert message in text


@pytest.mark.parametrize("name", ["xenpolicy-4.18", "policy"])
def test_a_policy_where_xen_has_no_flask(boot: Path, name: str) -> None:
    config = "grub/grub.cfg"
    (first,) = said(entry(boot, config, CONFIGS[config]("", [name, "real.img"])), "XEN-INITRD")
    assert (first[0], first[2]) == ("error", candidates(1))
    (last,) = said(entry(boot, config, CONFIGS[config]("", ["real.img", name])), "XEN-INITRD")
    assert (last[0], last[1]) == ("warning", "module #2 is a security policy, for which this Xen was not built")


@pytest.mark.parametrize("names", ["real.img policy", "policy real.img", "policy real.img ucode.img"])
def test_a_policy_where_xen_may_have_flask(names: str) -> None:
    """Known by its content; what Xen was built with is not told."""
    modules = tuple(Image(name, BytesSource(FILES[name])) for name in names.split())
    handed = BootSet(modules=modules, xen_cmdline="ucode=scan").handed()
    assert handed.initrd is not None
    assert handed.initrd.path == "real.img"
    assert all("policy" not in problem.evidence.file for problem in check_set(handed))


def test_archives_by_number(boot: Path) -> None:
    """Xen 4.20 takes them, older ones do not."""
    text = CONFIGS["grub/grub.cfg"]("ucode=-1", ["real.img", "ucode.img"])
    assert "INITRD-MICROCODE" in ids(entry(boot, "grub/grub.cfg", text))
    assert "INITRD-MICROCODE" not in ids(entry(boot, "grub/grub.cfg", text, "4.22.0"))


@pytest.mark.parametrize(
    ("names", "words", "old", "new"),
    [
        ("real.img", "ucode=scan", "", "Microcode: GenuineIntel.bin not found during CPIO scan"),
        ("real.img", "ucode=3", "", "Microcode: Chosen module 3 out of range [1, 2)"),
        ("real.img", "ucode=1", "Parsing microcode blob error -22", "Microcode: Parse error -22"),
    ],
)
def test_what_xen_says_of_it(boot: Path, names: str, words: str, old: str, new: str) -> None:
    """Seen of Debian's 4.17, and of a 4.22 built from its branch, on an Intel processor of QEMU."""
    text = CONFIGS["grub/grub.cfg"](words, names.split())
    for xen, line in (("4.18.0", old), ("4.22.0", new)):
        ((_, _, printed),) = said(entry(boot, "grub/grub.cfg", text, xen), "INITRD-MICROCODE")
        assert printed in line
        assert bool(printed) == bool(line)


def test_a_module_that_is_looked_through_in_vain(boot: Path) -> None:
    """Xen goes on; it is no initrd that cannot be read."""
    text = CONFIGS["grub/grub.cfg"]("ucode=scan", ["both.img", "junk"])
    assert ids(entry(boot, "grub/grub.cfg", text)) == {"XEN-INITRD"}


def test_the_initrd_is_what_dom0_gets(boot: Path) -> None:
    """Not the last module: an initrd that is for another kernel is one only where dom0 gets it."""
    (boot / "other.img").write_bytes(initrd("5.10.0-other"))
    config = "grub/grub.cfg"
    found = entry(boot, config, CONFIGS[config]("", ["other.img", "real.img"]))
    assert "INITRD-MODULES" in ids(found)
    found = entry(boot, config, CONFIGS[config]("", ["real.img", "other.img"]))
    assert "INITRD-MODULES" not in ids(found)


def test_a_module_that_is_not_there(boot: Path) -> None:
    config = "grub/grub.cfg"
    found = entry(boot, config, CONFIGS[config]("", ["gone.img", "real.img"]))
    assert ids(found) == {"ENTRY-FILE"}


@pytest.mark.parametrize("config", LINUX_CONFIGS)
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("real.img", set()),
        ("ucode.img real.img", set()),
        ("ucode.img amd.img real.img", set()),
        ("amd.img both.img", set()),
        ("real.img empty", set()),
        ("real.img ucode.img", {"MICROCODE-NOT-EARLY"}),
        ("ucode.img", {"INITRD-NO-INIT"}),
        ("ucode.img amd.img", {"INITRD-NO-INIT"}),
        ("ucode.img junk real.img", {"INITRD-JUNK", "INITRD-NO-INIT"}),  # what is behind it is lost
        ("ucode.img gone.img real.img", {"ENTRY-FILE"}),
    ],
)
def test_linux_gets_all_as_one(boot: Path, config: str, names: str, wanted: set[str]) -> None:
    assert ids(entry(boot, config, LINUX_CONFIGS[config](names.split()))) == wanted


def test_modules_in_any_of_several_initrds(boot: Path) -> None:
    (boot / "other.img").write_bytes(initrd("5.10.0-other"))
    config = "grub/grub.cfg"
    for names in ("real.img other.img", "other.img real.img"):
        assert "INITRD-MODULES" not in ids(entry(boot, config, LINUX_CONFIGS[config](names.split())))
    assert "INITRD-MODULES" in ids(entry(boot, config, LINUX_CONFIGS[config](["ucode.img", "other.img"])))


def test_files_of_one_set(boot: Path) -> None:
    """Given by themselves: one initrd, other modules unknown. ucode= in xen.cfg has precedence over ucode=scan."""
    files = {"kernel": boot / f"vmlinuz-{RELEASE}", "initrd": boot / "real.img"}
    assert ids(problems(boot, files, xen_cmdline="ucode=-1")) == set()
    assert ids(problems(boot, files, xen_cmdline="ucode=scan")) == {"INITRD-MICROCODE"}
    config = f"[global]\ndefault=a\n[a]\noptions=ucode=scan\nkernel=vmlinuz-{RELEASE} ro\nramdisk=real.img\n"
    (boot / "xen.cfg").write_text(config)
    assert ids(problems(boot, {"xen_cfg": boot / "xen.cfg"})) == {"INITRD-MICROCODE"}
    (boot / "xen.cfg").write_text(config + "ucode=ucode.bin\n")
    assert ids(problems(boot, {"xen_cfg": boot / "xen.cfg"})) == set()
