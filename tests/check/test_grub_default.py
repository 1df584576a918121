"""Which entry GRUB starts by itself: ``default`` beside GRUB in QEMU, which goes from one menu to the next."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.system import check_system
from mbtool.formats import grub_cfg
from mbtool.source import Limits
from tests import grub
from tests.qemu import run

CASES = {
    # what default is: the entry that is started, and whether that is for want of the one that is named
    "0": ("first", False),
    "2": ("second", False),
    "9": ("first", True),
    "Second": ("second", False),
    "second": ("first", True),
    "two": ("second", False),
    "Third": ("first", True),
    "more": ("a", False),
    "more>b": ("b", False),
    "more>B with Xen 4.17": ("b", False),
    "more>B with Xen 4.16": ("a", True),
    "More >> less>B with Xen 4.17": ("b", False),
    "1>1": ("b", False),
    "": ("first", False),
}
MENU = """\
set default="{default}"
set timeout=0
menuentry 'First' --id one {{ {first}
}}
submenu 'More > less' --id more {{
    menuentry 'A' --class xen $menuentry_id_option 'a' {{ {a}
    }}
    menuentry 'B with Xen 4.17' --id b {{ {b}
    }}
}}
menuentry 'Second' --id two {{ {second}
}}
"""


def menu(default: str, then: str = "") -> str:
    names = ("first", "a", "b", "second")
    return MENU.format(default=default, **{name: f"echo '[{name}]'\n{then}" for name in names})


@pytest.fixture(scope="module")
def started(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    work = tmp_path_factory.mktemp("grub")
    for number, default in enumerate(CASES):
        more = f"configfile (memdisk)/{number + 1}" if number + 1 < len(CASES) else "echo '<end>'\nsleep 60"
        (work / str(number)).write_text(menu(default, f"clear\n{more}"))
    (work / "script").write_text(
        "serial --unit=0\nterminal_output serial\nset menuentry_id_option=--id\nexport menuentry_id_option\n"
        "configfile (memdisk)/0\n"
    )
    files = [work / "script", *(work / str(number) for number in range(len(CASES)))]
    modules = ("normal", "serial", "echo", "test", "configfile", "sleep", "terminal")
    image = grub.disk(work, tool, "normal (memdisk)/script", files, modules)
    console = run(["-machine", "pc", "-m", "128", "-drive", f"file={image},format=raw"], until="<end>").console
    said = re.findall(r"\[(first|second|a|b)\]", console)
    assert len(said) == len(CASES), console
    return dict(zip(CASES, said, strict=True))


@pytest.mark.boot
@pytest.mark.parametrize("default", CASES)
def test_what_grub_starts(started: dict[str, str], default: str) -> None:
    assert started[default] == CASES[default][0]


@pytest.mark.parametrize("default", CASES)
def test_a_default_that_names_no_entry(default: str) -> None:
    assert grub_cfg.menu(menu(default)).lost_default == (default if CASES[default][1] else "")


def test_a_saved_entry_from_before_an_update(tmp_path: Path) -> None:
    """As GRUB_DEFAULT=saved has it; where Fedora's entries come from elsewhere, nobody knows."""
    (tmp_path / "grub").mkdir()
    saved = "more>B with Xen 4.16"
    (tmp_path / "grub" / "grubenv").write_text(f"# GRUB Environment Block\nsaved_entry={saved}\n".ljust(1024, "#"))
    text = "load_env\n" + menu("${saved_entry}", "linux /vmlinuz")
    for config, wanted in ((text, [saved]), (text.replace("more>", "") + "blscfg\n", [])):
        (tmp_path / "grub" / "grub.cfg").write_text(config)
        found = [each for _, told in check_system(tmp_path, Limits()) for each in told]
        assert [each.evidence.found for each in found if each.id == "ENTRY-DEFAULT"] == wanted
