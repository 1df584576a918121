"""Boot entries of a system: Debian's and Fedora's configurations, files that are missing or stale."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from mbtool.build import dom0, kernel
from mbtool.check.boot_entries import System
from mbtool.check.boot_entry import from_grub
from mbtool.check.report import Problem
from mbtool.check.system import check_system
from mbtool.errors import InputError
from mbtool.formats import bls, grub_cfg
from mbtool.formats.xen_versions import XenVersion
from mbtool.source import Budget, Limits, Source
from tests.check.sets import RELEASE, XEN, ids, initrd, vmlinuz
from tests.cli.run import mbtool
from tests.conftest import ROOT

DEBIAN = (ROOT / "tests" / "data" / "boot" / "debian12-grub.cfg").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    boot = tmp_path / "boot"
    (boot / "grub").mkdir(parents=True)
    (boot / "grub" / "grub.cfg").write_text(DEBIAN)
    (boot / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    (boot / f"initrd.img-{RELEASE}").write_bytes(initrd())
    (boot / "xen.gz").write_bytes((XEN / "xen-4.18.0.gz").read_bytes())
    return tmp_path


def checked(folder: Path) -> dict[str, list[Problem]]:
    """Problems by the title of the entry."""
    return {name.rpartition(": ")[2]: found for name, found in check_system(folder, Limits())}


XEN_ENTRY = "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Xen hypervisor"


def test_debians_entries() -> None:
    entries = grub_cfg.parse(DEBIAN)
    assert [entry.title for entry in entries] == ["Debian GNU/Linux", XEN_ENTRY, "UEFI Firmware Settings"]
    assert [entry.line for entry in entries] == [12, 27, 39]
    linux, xen = from_grub(entries[0], "x"), from_grub(entries[1], "x")
    assert linux is not None
    assert xen is not None
    assert (linux.kernel, linux.initrds) == (
        f"(uuid=1)/boot/vmlinuz-{RELEASE}",
        (f"(uuid=1)/boot/initrd.img-{RELEASE}",),
    )
    assert linux.cmdline == "root=UUID=1 ro quiet"
    assert xen.xen_cmdline == "placeholder dom0_mem=256M no-real-mode edd=off"
    assert xen.cmdline == "placeholder root=UUID=1 ro quiet"
    assert xen.initrds == (f"/boot/initrd.img-{RELEASE}",)
    assert from_grub(entries[2], "x") is None


def test_a_command_of_nothing() -> None:
    """A variable without a value, alone on its line; GRUB passes over it."""
    (entry,) = grub_cfg.parse("$nothing\n\0\nmenuentry a {\n$nothing\nlinux /x\n}\n")
    assert [command.words for command in entry.commands] == [("linux", "/x")]


def test_a_good_system_is_clean(root: Path) -> None:
    for folder in (root, root / "boot"):
        found = checked(folder)
        assert len(found) == 3
        assert all(problems == [] for problems in found.values()), found


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("linux	/boot/vmlinuz-", "linux	/boot/vmlinuz-9", "ENTRY-FILE"),
        ("initrd	/boot/initrd.img-6", "initrd	/boot/initrd.img-7", "ENTRY-FILE"),
        (f"	initrd	/boot/initrd.img-{RELEASE}\n", "", "ENTRY-NO-INITRD"),
        ("	module2	/boot/vmlinuz", "	module	/boot/vmlinuz", "ENTRY-COMMAND"),
        ("multiboot2	/boot/xen.gz", "multiboot	/boot/xen.gz", "ENTRY-COMMAND"),
        ("multiboot2	/boot/xen.gz", "linux	/boot/xen.gz", "LOADER-REFUSES"),
        ("multiboot2	/boot/xen.gz", f"multiboot2	/boot/vmlinuz-{RELEASE}", "LOADER-REFUSES"),
        ("dom0_mem=256M", "dom0_mem=2M", "DOM0-MEM"),
        ("dom0_mem=256M", "dom0_men=256M", "XEN-OPTION-UNKNOWN"),
    ],
)
def test_each_break_has_its_rule(root: Path, old: str, new: str, rule: str) -> None:
    assert old in DEBIAN
    (root / "boot" / "grub" / "grub.cfg").write_text(DEBIAN.replace(old, new))
    assert rule in {id_ for found in checked(root).values() for id_ in ids(found)}


def test_xen_without_a_kernel(root: Path) -> None:
    text = "\n".join(line for line in DEBIAN.splitlines() if "module2" not in line)
    (root / "boot" / "grub" / "grub.cfg").write_text(text)
    assert "ENTRY-NO-KERNEL" in ids(checked(root)[XEN_ENTRY])


def test_a_sites_own_rules_are_for_every_entry(root: Path) -> None:
    policy = root / "site.toml"
    policy.write_text(
        '[[rule]]\nid = "SITE-MEM"\nmessage = "m"\nxen-option = "dom0_mem"\nvalue = "512M"\n'
        '[[rule]]\nid = "SITE-RO"\nmessage = "m"\nkernel-option = "ro"\n'
    )
    found = json.loads(mbtool("check", "--json", "--policy", policy, root).stdout)["checked"]
    assert {each["subject"].rpartition(">")[2] for each in found if each["problems"]} == {
        XEN_ENTRY.rpartition(">")[2]
    }
    policy.write_text(policy.read_text().replace("512M", "256M"))
    mbtool("check", "--json", "--policy", policy, root)
    (root / "boot" / "grub" / "grub.cfg").write_text(DEBIAN.replace(" ro ", " rw "))
    found = json.loads(mbtool("check", "--json", "--policy", policy, root).stdout)["checked"]
    assert [[problem["rule"] for problem in each["problems"]] for each in found] == [["SITE-RO"], ["SITE-RO"], []]


def test_a_kernel_that_nobody_starts(root: Path) -> None:
    (root / "boot" / "vmlinuz-9.9.9").write_bytes(vmlinuz())
    found = checked(root)
    assert ids(found[str(root)]) == {"ENTRY-NONE-FOR-KERNEL"}


def test_boot_that_is_a_file_system_of_its_own(tmp_path: Path, root: Path) -> None:
    """Then paths in the configuration begin below it."""
    (root / "boot" / "grub" / "grub.cfg").write_text(DEBIAN.replace("/boot/", "/"))
    assert all(found == [] for found in checked(root).values())


FEDORA = f"""\
title Fedora Linux ({RELEASE}) 40 (Server Edition)
version {RELEASE}
linux /vmlinuz-{RELEASE}
initrd /initramfs-{RELEASE}.img $tuned_initrd
options root=UUID=1 ro rhgb quiet $tuned_params
grub_users $grub_users
"""


def test_fedoras_entries(tmp_path: Path) -> None:
    entry = bls.parse(FEDORA)
    assert entry.linux == f"/vmlinuz-{RELEASE}"
    assert entry.initrd == (f"/initramfs-{RELEASE}.img", "$tuned_initrd")
    entries = tmp_path / "boot" / "loader" / "entries"
    entries.mkdir(parents=True)
    (entries / f"fedora-{RELEASE}.conf").write_text(FEDORA)
    (tmp_path / "boot" / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    assert {id_ for found in checked(tmp_path).values() for id_ in ids(found)} == {"ENTRY-FILE"}
    (tmp_path / "boot" / f"initramfs-{RELEASE}.img").write_bytes(initrd())
    assert all(found == [] for found in checked(tmp_path).values())


def test_efis_paths() -> None:
    entry = bls.parse("linux \\EFI\\debian\\vmlinuz\ninitrd \\ucode.img \\initrd.img\noptions a=\\b\n")
    assert (entry.linux, entry.initrd) == ("/EFI/debian/vmlinuz", ("/ucode.img", "/initrd.img"))
    assert entry.options == "a=\\b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linux /k a'b c'd", ["/k", "ab cd"]),
        ('linux /k "a b"', ["/k", "a b"]),
        ("linux /k a\\ b", ["/k", "a b"]),
        ("linux /k $x", ["/k", "1", "2"]),
        ('linux /k "${x}"', ["/k", "1", "2"]),
        ("linux /k '$x'", ["/k", "$x"]),
        ("linux /k \\\n  more", ["/k", "more"]),
        ("linux /k a#b # comment", ["/k", "a#b"]),
        ("linux ($root)/k", ["(hd0)/k"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    (entry,) = grub_cfg.parse(f"set x='1 2'\nroot=hd0\nmenuentry 'a' {{\n{text}\n}}\n")
    assert list(entry.commands[0].arguments) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "menuentry",
        "menuentry 'a' {",
        "}}}}",
        "menuentry 'a",
        "submenu a {" * 50,
        "menuentry a { linux",
        "${",
        "menuentry a { linux /k ${x",
        "$" * 1000,
        "{ " * 1000,
        "\\",
        "'\"'\"",
        "menuentry a { if [ x ]; then linux /k; fi; }",
    ],
)
def test_any_text_is_a_configuration(text: str) -> None:
    for entry in grub_cfg.parse(text):
        from_grub(entry, "x")


def test_variables_that_grow_without_end() -> None:
    text = "set x=aaaaaaaaaaaaaaaa\n" + 'set x="$x$x"\n' * 200 + "menuentry a {\nlinux /k $x\n}\n"
    (entry,) = grub_cfg.parse(text)
    assert len(entry.commands[0].words[-1]) <= grub_cfg.MAX_WORD


def test_the_configuration_of_xens_efi_loader(tmp_path: Path) -> None:
    esp = tmp_path / "boot" / "efi" / "EFI" / "xen"
    esp.mkdir(parents=True)
    (esp / "xen.efi").write_bytes(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    (esp / "vmlinuz").write_bytes(vmlinuz())
    config = "[global]\ndefault=a\n[a]\noptions=dom0_mem=256M\nkernel=vmlinuz root=/dev/sda1\n"
    (esp / "xen.cfg").write_text(config)
    assert ids(checked(tmp_path)[str(esp / "xen.cfg")]) == {"PE-NX-WRITABLE-CODE"}
    (esp / "xen.cfg").write_text(config.replace("256M", "2M") + "ramdisk=gone\n")
    assert ids(checked(tmp_path)[str(esp / "xen.cfg")]) == {"PE-NX-WRITABLE-CODE", "DOM0-MEM", "XEN-CFG-FILE"}


def test_no_entries_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no boot entries"):
        list(check_system(tmp_path, Limits()))
    assert System.of(tmp_path).find("") is None


def test_command_line(root: Path, tmp_path: Path) -> None:
    done = mbtool("check", root)
    assert done.returncode == 0
    assert f"{XEN_ENTRY}: nothing found" in done.stdout
    (root / "boot" / f"initrd.img-{RELEASE}").unlink()
    done = mbtool("check", root / "boot")
    assert done.returncode == 1
    assert done.stdout.count("[ENTRY-FILE]") == 2
    (root / "boot" / "grub" / "grub.cfg").unlink()
    assert mbtool("check", root).returncode == 2


SYSLINUX = f"""\
LABEL linux
  LINUX ../vmlinuz-{RELEASE}
  INITRD ../initrd.img-{RELEASE}
  APPEND root=/dev/sda1
LABEL xen
  COM32 mboot.c32
  APPEND ../xen.gz dom0_mem=256M --- ../vmlinuz-{RELEASE} root=/dev/sda1 --- ../initrd.img-{RELEASE}
LABEL image
  LINUX memdisk
  INITRD floppy.img
LABEL local
  LOCALBOOT 0
"""
LIMINE = f"""\
/Linux
protocol: linux
path: boot():/vmlinuz-{RELEASE}
module_path: boot():/initrd.img-{RELEASE}
/Xen
protocol: multiboot2
path: $boot():/xen.gz
cmdline: placeholder dom0_mem=256M
module_path: boot():/vmlinuz-{RELEASE}
module_string: placeholder ro
module_path: boot():/initrd.img-{RELEASE}
/Elsewhere
protocol: linux
path: boot(7):/vmlinuz
"""


@pytest.mark.parametrize(
    ("name", "text", "titles"),
    [
        ("syslinux/syslinux.cfg", SYSLINUX, ["linux", "xen", "image"]),
        ("limine/limine.conf", LIMINE, ["Linux", "Xen", "Elsewhere"]),
    ],
)
def test_other_loaders(root: Path, name: str, text: str, titles: list[str]) -> None:
    (root / "boot" / "grub" / "grub.cfg").unlink()
    path = root / "boot" / name
    path.parent.mkdir()
    (path.parent / "memdisk").write_bytes(vmlinuz())
    (path.parent / "floppy.img").write_bytes(bytes(512))
    path.write_text(text)
    found = checked(root)
    assert list(found) == [*titles, str(root)]
    assert all(ids(problems) == set() for problems in found.values()), found
    path.write_text(text.replace(f"vmlinuz-{RELEASE}", "vmlinuz-gone"))
    assert {"ENTRY-FILE", "ENTRY-NONE-FOR-KERNEL"} == {
        id_ for found in checked(root).values() for id_ in ids(found)
    }
    path.write_text(text.replace("256M", "2M"))
    assert "DOM0-MEM" in ids(checked(root)[titles[1]])
    if "placeholder" in text:
        path.write_text(text.replace("placeholder ", ""))
        assert "ENTRY-FIRST-WORD" in ids(checked(root)["Xen"])
        path.write_text(text.replace("placeholder dom0_mem=256M", "dom0_mem=2M"))  # which Xen does not see
        assert ids(checked(root)["Xen"]) == {"ENTRY-FIRST-WORD"}
        path.write_text(text.replace("placeholder ", "xen.gz ", 1))
        assert ids(checked(root)["Xen"]) == set()
        path.write_text(text.replace("$boot", "boot"))  # Limine hands on what is packed as it is
        assert ids(checked(root)["Xen"]) == {"LOADER-REFUSES"}
        path.write_text(text.replace("multiboot2", "multiboot"))
        assert ids(checked(root)["Xen"]) == set()


def test_a_kernel_of_many_entries_is_unpacked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(source: Source, budget: Budget, version: XenVersion) -> kernel.Kernel:
        calls.append(source.name)
        return open_kernel(source, budget, version)

    open_kernel = kernel.open_kernel
    for module in (kernel, dom0):
        monkeypatch.setattr(module, "open_kernel", counted)
    body = DEBIAN[DEBIAN.index("\tmenuentry 'Debian GNU/Linux, with Xen") : DEBIAN.index("menuentry 'UEFI") - 2]
    text = "".join(body.replace("with Xen", f"{number} with Xen") for number in range(3))
    (root / "boot" / "grub" / "grub.cfg").write_text(text.replace("dom0_mem=256M", "dom0_mem=2M", 1))
    found = checked(root)
    assert [ids(problems) for problems in found.values()] == [{"DOM0-MEM"}, set(), set(), set()]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("initrd /boot/initrd.img-{0}", "linux /boot/vmlinuz-{0} ro"), {"ENTRY-COMMAND"}),
        (("lnux /boot/vmlinuz-{0} ro", "initrd /boot/initrd.img-{0}"), {"ENTRY-COMMAND"}),
        (("linux", "initrd /boot/initrd.img-{0}"), {"ENTRY-COMMAND"}),
        (("module2 /boot/vmlinuz-{0}", "multiboot2 /boot/xen.gz", "module2 /boot/vmlinuz-{0}"), {"ENTRY-COMMAND"}),
        (("multiboot3 /boot/xen.gz", "module2 /boot/vmlinuz-{0}"), {"ENTRY-COMMAND"}),
        (("linux /boot/vmlinuz-{0} ro", "initrd /boot/initrd.img-{0} }}", "menuentry Y {{", "fwsetup"), set()),
        (("linux /boot/vmlinuz-{0} ro", "initrd /boot/initrd.img-{0}", "fi"), {"ENTRY-SYNTAX"}),
        (("$load /boot/vmlinuz-{0} ro", "initrd /boot/initrd.img-{0}"), set()),
        (("reboot",), set()),
    ],
)
def test_commands_in_their_order(root: Path, lines: tuple[str, ...], told: set[str]) -> None:
    """GRUB, in each of these cases but the last four: you need to load the kernel first."""
    commands = [line.format(RELEASE) for line in lines]
    (root / "boot" / "grub" / "grub.cfg").write_text(GOOD + menuentry("Z", *commands))
    found = set().union(*rules(root).values())
    assert found - {"ENTRY-NO-INITRD"} == told


def test_a_configuration_that_was_cut(root: Path) -> None:
    """As by a full /boot: there is no entry at all, or the last one is lost."""
    for text in (f"menuentry X {{\n {LINUX}\n", GOOD + f"menuentry Y {{\n {LINUX}\n", GOOD + "menuentry 'Y"):
        (root / "boot" / "grub" / "grub.cfg").write_text(text)
        (problem,) = [each for found in checked(root).values() for each in found if each.severity == "error"]
        assert (problem.id, problem.console) == ("ENTRY-SYNTAX", "error: syntax error.")


LINUX = f"linux /boot/vmlinuz-{RELEASE} root=/dev/sda1 ro\n initrd /boot/initrd.img-{RELEASE}"
OTHER = "linux /boot/vmlinuz-9 root=/dev/sda1"


def rules(folder: Path) -> dict[str, set[str]]:
    return {name: ids(found) for name, found in checked(folder).items()}


def menuentry(title: str, *lines: str) -> str:
    return "\n".join([f"menuentry {title} {{", *lines, "}", ""])


GOOD, BAD = menuentry("X", LINUX), menuentry("X", OTHER)
GO = "function go {\n linux /boot/vmlinuz-$1 ro\n initrd /boot/initrd.img-${1}\n}\n"
IN_SUBMENU = "submenu S {\n function f {\n true\n }\n if true; then\n" + menuentry("A", "f", LINUX) + "fi\n}"
BRANCHES = menuentry("A", "if efi; then", LINUX, "else", OTHER, "fi")


@pytest.mark.parametrize(
    ("config", "other", "wanted"),
    [
        ("configfile /boot/grub/x.cfg", BAD, {"X": {"ENTRY-FILE"}}),
        ("source $prefix/x.cfg", GOOD, {"X": set()}),
        (". ${config_directory}/x.cfg", BAD, {"X": {"ENTRY-FILE"}}),
        (menuentry("M", "configfile ($root)/boot/grub/x.cfg"), GOOD, {"M>X": set()}),
        ("source $prefix/x.cfg\nsource $prefix/x.cfg\nconfigfile /boot/grub/grub.cfg", GOOD, {"X": set()}),
        (GO + menuentry("A", f"go {RELEASE}"), "", {"A": set()}),
        (GO + menuentry("A", "go 9"), "", {"A": {"ENTRY-FILE"}}),
        (IN_SUBMENU, "", {"S>A": set()}),
        (BRANCHES, "", {"A": {"ENTRY-FILE"}}),
        (menuentry("W", "chainloader (hd0,1)+1") + menuentry("V", "chainloader +1"), GOOD, {}),
    ],
)
def test_what_grub_follows(root: Path, config: str, other: str, wanted: dict[str, set[str]]) -> None:
    (root / "boot" / "grub" / "grub.cfg").write_text(config + "\n")
    (root / "boot" / "grub" / "x.cfg").write_text(other + "\n")
    if not wanted:
        with pytest.raises(InputError):
            rules(root)
        return
    found = rules(root)
    del found[str(root)]
    assert found == wanted


@pytest.mark.parametrize(
    ("top", "words", "there"),
    [
        ("/@", "rootflags=subvol=@", True),
        ("/root", "rootflags=noatime,subvol=root", True),
        ("/@/.snapshots/1/snapshot", "rootflags=subvol=@/.snapshots/1/snapshot", True),
        ("/BOOT/debian@", "root=ZFS=rpool/ROOT/debian", True),
        ("/@x", "", False),
        ("/@home", "rootflags=subvol=@", False),
    ],
)
def test_paths_in_subvolumes(root: Path, top: str, words: str, there: bool) -> None:
    """grub-mkrelpath writes them from the top of the file system; 10_linux adds rootflags."""
    boot = "" if "BOOT" in top else "/boot"
    (root / "boot" / "grub" / "grub.cfg").write_text(
        menuentry("A", f"linux {top}{boot}/vmlinuz-{RELEASE} {words}", f"initrd {top}{boot}/initrd.img-{RELEASE}")
    )
    assert rules(root)["A"] == (set() if there else {"ENTRY-FILE"})


GRUBENV = "# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=UUID=1 ro rotwait\n" + "#" * 900


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ('load_env\nif [ -z "${kernelopts}" ]; then\nset kernelopts="ro"\nfi\nblscfg', {"LINUX-OPTION-MISSPELT"}),
        ("load_env -f ${config_directory}/grubenv kernelopts\nblscfg", {"LINUX-OPTION-MISSPELT"}),
        ('load_env saved_entry\nset kernelopts="root=UUID=1 ro"\nblscfg', set()),
        ("blscfg", set()),
    ],
)
def test_fedoras_kernelopts(root: Path, config: str, wanted: set[str]) -> None:
    boot = root / "boot"
    (boot / "grub").rename(boot / "grub2")
    (boot / "grub2" / "grub.cfg").write_text(config + "\n")
    (boot / "grub2" / "grubenv").write_text(GRUBENV)
    (boot / "loader" / "entries").mkdir(parents=True)
    (boot / "loader" / "entries" / "f.conf").write_text(
        f"title F\nlinux /vmlinuz-{RELEASE}\ninitrd /initrd.img-{RELEASE}\noptions $kernelopts $tuned_params\n"
    )
    assert rules(root)["F"] == wanted


def test_unified_kernel_images(tmp_path: Path) -> None:
    """Boot Loader Specification, type 2, and the key that names one."""
    (tmp_path / "EFI" / "Linux").mkdir(parents=True)
    (tmp_path / "loader" / "entries").mkdir(parents=True)
    (tmp_path / "EFI" / "Linux" / "good.efi").write_bytes(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    (tmp_path / "EFI" / "Linux" / "bad.efi").write_bytes(vmlinuz())
    (tmp_path / "loader" / "entries" / "a.conf").write_text("title U\nuki /EFI/Linux/good.efi\n")
    (tmp_path / "loader" / "entries" / "b.conf").write_text("title G\nuki /EFI/Linux/gone.efi\n")
    found = rules(tmp_path)
    assert (found["U"], found["good.efi"]) == ({"PE-NX-WRITABLE-CODE"}, set())
    assert found["G"] == {"ENTRY-FILE"}
    assert found["bad.efi"] == {"LOADER-REFUSES"}


def test_a_config_that_grows_without_end(root: Path) -> None:
    text = "function f {\n" + "f a b c\n" * 2000 + "}\nf\nsource /boot/grub/x.cfg\n"
    (root / "boot" / "grub" / "grub.cfg").write_text(text + f"menuentry A {{\n {LINUX}\n}}\n")
    (root / "boot" / "grub" / "x.cfg").write_text("source /boot/grub/x.cfg\n" * 20_000)
    assert "A" in rules(root)
