"""The words about rules: there for every rule, whole, and about nothing else."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from mbtool.check.catalogue import catalogue
from mbtool.check.dom0 import REFUSALS
from mbtool.check.linux import REFUSALS as LINUX_REFUSALS
from mbtool.check.report import SUBJECTS
from mbtool.check.rule import IMAGE_RULES, SET_RULES
from tests.conftest import ROOT

for subject in SUBJECTS:
    import_module(f"mbtool.check.{subject}")

OWN = {*IMAGE_RULES, *SET_RULES, *(row.rule for row in REFUSALS), *(rule for _, rule in LINUX_REFUSALS)}
NO_RULES = {"IA-64", "RISC-V", "SHA-256", "LZO1X-1", "LZO1X-999", "TOPS-20"}
"""What looks like an id in the formats' sources, and is a name."""


def formats_ids() -> set[str]:
    """The ids of findings in the sources of formats and planners."""
    found = set()
    for folder in ("formats", "plan"):
        for path in (ROOT / "mbtool" / folder).glob("*.py"):
            text = path.read_text()
            found |= set(re.findall(r'"([A-Z][A-Z0-9]+(?:-[A-Z0-9]+)+)"', text))
            found |= set(re.findall(r'Finding(?:\.of)?\(\s*(?:error, )?"([A-Z]+)"', text))
            for tail in re.findall(r'f"MULTIBOOT\{[a-z.]+\}(-[A-Z-]+)"', text):
                found |= {f"MULTIBOOT1{tail}", f"MULTIBOOT2{tail}"}
    return found - NO_RULES


def test_every_rule_and_every_finding_has_words() -> None:
    assert sorted((OWN | formats_ids()) - set(catalogue())) == []


def test_there_are_no_words_about_nothing() -> None:
    spoken = {
        "UNREADABLE",
        "LIMIT",
        "DAMAGED",
        "SPACE-LEFT",
        "VOLUME-UNREAD",
        "MULTIBOOT-PAST-MEMORY",
        "MULTIBOOT-ENTRY-ZEROS",
        "XEN-ENTRY-HYPERCALL",
        "LINUX-INITRD-OLD",
        *(id_ for id_ in catalogue() if id_.startswith("ENTRY-")),
    }
    assert sorted(set(catalogue()) - OWN - formats_ids() - spoken) == []


@pytest.mark.parametrize("rule", sorted(OWN))
def test_own_rules_say_what_happens_and_how_bad_it_is(rule: str) -> None:
    words = catalogue()[rule]
    if rule not in formats_ids():
        assert words.severity is not None
    assert words.title
    assert words.boot or words.severity == "info"


def test_words_are_sentences() -> None:
    for words in catalogue().values():
        assert not words.title.endswith(".")
        assert not words.boot or words.boot.endswith("."), words.id
        assert not words.meaning or words.meaning.endswith("."), words.id
        assert not words.remedy.endswith("."), words.id
