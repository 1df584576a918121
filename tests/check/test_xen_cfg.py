"""xen.efi's configuration: read as xen/common/efi/boot.c does, and checked against the files beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.xen_cfg import _byte_more
from mbtool.formats import xen_cfg, xen_versions
from tests.check.sets import XEN, ids, initrd, problems, vmlinuz

GOOD = """\
# a comment
[global]
default=debian
[debian]
options=console=com1 dom0_mem=512M
kernel=vmlinuz console=hvc0 root=/dev/sda1
ramdisk=initrd.img
[other]
kernel=gone
"""


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(vmlinuz())
    (tmp_path / "initrd.img").write_bytes(initrd())
    return tmp_path


def broken(esp: Path, text: str) -> set[str]:
    path = esp / "xen.cfg"
    path.write_text(text)
    return ids(problems(esp, {"xen_cfg": path}))


def test_the_parser_sees_what_the_loader_sees() -> None:
    data = b"[a]\nk=1#x\n ;no=1\n;no=1\n  v= 2 \tw=3\n#no=1\n[b]\nk=9\nlast=1"
    config = xen_cfg.parse(data)
    assert config.sections == ("a", "b")
    line = config.get("a", "k")
    assert line is not None
    assert (line.value, line.rest, line.offset) == ("1", "#x", 4)
    assert list(config.keys("a")) == ["k", "v", "w"]
    assert config.get("a", "last") is None
    assert config.get("c", "k") is None
    assert not config.ended
    first = config.get(None, "k")
    assert first is not None
    assert first.value == "1"
    for at in (line.offset for line in config.lines):
        assert data[at : at + 1].strip()


def test_a_good_one_is_clean_and_says_the_rest_of_the_set(esp: Path) -> None:
    assert broken(esp, GOOD) == set()
    with open_set(xen_cfg=esp / "xen.cfg") as boot:
        assert boot.kernel is not None
        assert boot.kernel.path.endswith("vmlinuz")
        assert boot.initrd is not None
        assert boot.cmdline == "console=hvc0 root=/dev/sda1"
        assert boot.options == b"console=com1 dom0_mem=512M"


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ("XEN-CFG-NO-KERNEL", "default=debian", "default=debain"),
        ("XEN-CFG-NO-KERNEL", "kernel=vmlinuz ", "kernal=vmlinuz "),
        ("XEN-CFG-NO-KERNEL", "kernel=vmlinuz ", "kernel = vmlinuz "),
        ("XEN-CFG-FILE", "kernel=vmlinuz", "kernel=vmlinux"),
        ("XEN-CFG-FILE", "ramdisk=initrd.img", "ramdisk=\\EFI\\initrd.img"),
        ("XEN-CFG-FILE", "default=debian\n[debian]\n", "default =debian\n[first]\nkernel=gone\n[debian]\n"),
        ("XEN-CFG-FILE", "kernel=vmlinuz", "kernel=./vmlinuz"),
        ("XEN-CFG-FILE", "kernel=vmlinuz", "kernel=/vmlinuz"),
        ("XEN-CFG-FILE", "kernel=vmlinuz", 'kernel="vmlinuz"'),
        ("XEN-CFG-FILE", "ramdisk=initrd.img", "ramdisk="),
        ("XEN-CFG-FILE", "kernel=vmlinuz console", "kernel= #console"),
        ("XEN-CFG-KEY", "kernel=vmlinuz", "options=dom0_max_vcpus=1\nkernel=vmlinuz"),
        ("XEN-CFG-KEY", "ramdisk=", "initrd="),
        ("XEN-CFG-KEY", "ramdisk=", "ramdsk="),
        ("XEN-CFG-COMMENT", "root=/dev/sda1", "root=/dev/sda#1"),
        ("DOM0-MEM", "512M", "2M"),
    ],
)
def test_each_break_has_its_rule(esp: Path, rule: str, old: str, new: str) -> None:
    assert old in GOOD
    found = broken(esp, GOOD.replace(old, new))
    assert rule in found or (rule == "XEN-CFG-KEY" and not found)


def test_without_a_section_the_first_key_anywhere_counts(esp: Path) -> None:
    assert broken(esp, GOOD.replace("default=debian\n", "")) == set()
    with open_set(xen_cfg=esp / "xen.cfg") as boot:
        assert boot.cmdline == "console=hvc0 root=/dev/sda1"


def test_names_as_a_fat_file_system_takes_them(esp: Path) -> None:
    (esp / "EFI" / "xen").mkdir(parents=True)
    path = esp / "EFI" / "xen" / "xen.cfg"
    path.write_text(GOOD.replace("kernel=vmlinuz", r"kernel=\VMLINUZ").replace("=initrd.img", r"=\initrd.img"))
    assert ids(problems(esp, {"xen_cfg": path})) == set()


@pytest.mark.parametrize(("version", "severity"), [("", "warning"), ("4.18.0", "error"), ("4.22.0", "")])
def test_a_last_line_without_an_end(esp: Path, version: str, severity: str) -> None:
    """4.17.7 in test_matrix_uefi.py passes it over; the 4.20.5 of Debian's unstable was seen to read it."""
    (esp / "xen.cfg").write_text(GOOD.rstrip("\n"))
    files = {"xen_cfg": esp / "xen.cfg", **({"xen": XEN / f"xen-{version}.gz"} if version else {})}
    found = [each for each in problems(esp, files) if each.id == "XEN-CFG-LAST-LINE"]
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_another_kernel_than_the_one_that_is_checked(esp: Path) -> None:
    (esp / "xen.cfg").write_text(GOOD)
    assert ids(problems(esp, {"xen_cfg": esp / "xen.cfg", "kernel": vmlinuz()})) == {"XEN-CFG-OTHER-FILE"}


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"[", b"[]", b"=", b"\xff\xfe" * 50, b"[a]\n" * 1000])
def test_any_bytes_are_a_configuration(esp: Path, data: bytes) -> None:
    assert "XEN-CFG-NO-KERNEL" in ids(problems(esp, {"xen_cfg": data}))


CHAIN = "[global]\ndefault=debian\nchain=more.cfg\n"


@pytest.mark.parametrize(
    ("first", "more", "wanted"),
    [
        (CHAIN, GOOD, set()),
        (CHAIN, "[debian]\nkernel=vmlinuz\nramdisk=gone\n", {"XEN-CFG-FILE"}),
        (CHAIN, "[other]\nkernel=vmlinuz\n", {"XEN-CFG-NO-KERNEL"}),
        (CHAIN, "[global]\nchain=xen.cfg\n", set()),
        (CHAIN.replace("more", "gone"), GOOD, {"XEN-CFG-FILE"}),
        (GOOD.replace("default=debian", "default=debian\nchain=gone.cfg"), "", set()),
        (GOOD.replace("ramdisk=", "initrd="), "", {"XEN-CFG-KEY"}),
    ],
)
def test_chained_configurations(esp: Path, first: str, more: str, wanted: set[str]) -> None:
    """boot.c looks for the kernel first, and for chain= where there is none; the section stays the first one's."""
    (esp / "more.cfg").write_text(more)
    led = {"XEN-CFG-CHAIN"} if first == CHAIN else set()
    assert broken(esp, first) == wanted | led
    if more == GOOD and not wanted:
        with open_set(xen_cfg=esp / "xen.cfg") as boot:
            assert boot.kernel is not None
            assert boot.cmdline == "console=hvc0 root=/dev/sda1"


def test_a_configuration_without_anything(esp: Path) -> None:
    (esp / "xen.cfg").write_text("nothing\n")
    (problem,) = [each for each in problems(esp, {"xen_cfg": esp / "xen.cfg"}) if each.severity == "error"]
    assert (problem.id, problem.evidence.message) == ("XEN-CFG-NO-KERNEL", "it names no kernel")


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("4.17.7", False),
        ("4.19.6", False),
        ("4.20.3", False),
        ("4.20.4", True),
        ("4.21.1", False),
        ("4.21.2", True),
        ("4.22.0", True),
        ("4.23-unstable", True),
    ],
)
def test_who_asks_for_memory_for_an_empty_configuration(version: str, more: bool) -> None:
    """By the sources of the releases, xen/common/efi/boot.c, read_file."""
    assert _byte_more(xen_versions.parse(version)) == more
