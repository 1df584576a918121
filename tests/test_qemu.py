"""The runner of machines ends them all, and says what it saw."""

from __future__ import annotations

import pytest

from tests import qemu

pytestmark = pytest.mark.boot


def test_a_machine_that_says_nothing_is_ended_in_time() -> None:
    with pytest.raises(AssertionError, match=r"still running after 0\.5 s"):
        qemu.run(["-S"], timeout=0.5)  # -S: stopped before its first instruction


def test_the_text_it_waits_for_decides(samples) -> None:
    kernel = str(samples / "multiboot1/multiboot1.elf")
    boot = qemu.run(["-m", "32", "-kernel", kernel], until="^mb1: eax=0x2badb002$")
    assert boot.exit is None
    with pytest.raises(AssertionError, match="QEMU exited with 0 before 'never printed'"):
        qemu.run(["-m", "32", "-kernel", kernel], until="never printed")


def test_what_qemu_refuses_is_told() -> None:
    with pytest.raises(AssertionError, match=r"exited with 1 before(.|\n)*unsupported machine type"):
        qemu.run(["-machine", "no-such-machine"], until=".")
