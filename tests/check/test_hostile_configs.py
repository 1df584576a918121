"""Any text is a configuration: the words that loaders know, in any order, end in no error but mbtool's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbtool.check.system import check_system
from mbtool.errors import InputError
from mbtool.source import Limits

GRUB = (
    *("menuentry", "submenu", "function f", "f 1", "linux", "initrd", "multiboot2", "module2", "chainloader +1"),
    *("{", "}", "(", ")", "'", '"', "\\", "$", "${", "$x", "$root", "($root)/x", "${x}", "\0", ";", "#", "=", "--"),
    *(
        "set root=",
        "set x=$x$x",
        "x=",
        "search --set=root -u",
        "search.fs_uuid 1 root",
        "loopback l /x",
        "for x in",
    ),
    *("if", "then", "fi", "do", "done", "while", "configfile", "source", "load_env", "blscfg", "/x", "(hd0,1)/x"),
    *("set default=", ">", ">>", "1>1", "--id", "--set=x", "regexp --set=1:x"),
)
KEYED = (
    *(
        "title",
        "linux",
        "efi",
        "uki",
        "initrd",
        "options",
        "architecture",
        "aa64",
        "version",
        "/x",
        "\\x",
        "=",
        ":",
    ),
    *("LABEL", "KERNEL", "APPEND", "INCLUDE x", "mboot.c32", "---", "MENU BEGIN", "MENU END", "INITRD", ","),
    *(
        "/",
        "//",
        "+",
        "protocol: linux",
        "protocol: multiboot2",
        "path: boot():/x",
        "path: uuid(1):/x#" + "a" * 128,
    ),
    *("module_path:", "[global]", "[x]", "default=x", "kernel=x", "chain=x", "ramdisk=", "#", "\0", "$", "${x}"),
)
NAMES = {
    "grub/grub.cfg": GRUB,
    "loader/entries/x.conf": KEYED,
    "syslinux/syslinux.cfg": KEYED,
    "limine.conf": KEYED,
    "EFI/xen/xen.cfg": KEYED,
}


def texts(words: tuple[str, ...]) -> st.SearchStrategy[str]:
    word = st.one_of(st.sampled_from(words), st.sampled_from(words), st.text(max_size=3))
    return st.lists(st.tuples(word, st.sampled_from((" ", "\n", "\n", "")))).map(
        lambda parts: "".join(word + end for word, end in parts)
    )


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, str], None]:
    (tmp_path / "x").write_bytes(b"x")

    def written(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            for _ in check_system(tmp_path, Limits()):
                pass
        except InputError as error:
            assert "no boot entries" in error.problem or error.source

    return written


@pytest.mark.parametrize("name", NAMES)
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_configuration(check: Callable[[str, str], None], name: str, data: st.DataObject) -> None:
    check(name, data.draw(texts(NAMES[name])))
