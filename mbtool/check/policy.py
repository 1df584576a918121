"""A policy: what a site thinks of the rules, and rules of its own. TOML::

fail-on = "warning"

[severity]
PE-NX-WRITABLE-CODE = "error"

[[ignore]]
rule = "INITRD-MODULES"
file = "*/netboot/*"              # a shell pattern; left out: everywhere
reason = "the installer brings its own modules"

[[rule]]
id = "SITE-DOM0-MEM"
xen-option = "dom0_mem"           # or kernel-option
value = "[0-9]+M"                 # a regular expression for all of its value in effect; left out: any
message = "dom0_mem must be set, in MiB"
severity = "error"
forbid = false                    # true: the option must not be there

Of an option that is given more than once, what is in effect is judged (``mbtool.check.in_effect``): the last one;
what several of them make together where Xen adds lists up; each one where it stands for itself (``console`` of
Linux), of which one has to fit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mbtool.check import in_effect
from mbtool.check.boot_set import BootSet
from mbtool.check.catalogue import Words, catalogue
from mbtool.check.command_lines import DOM0, XEN
from mbtool.check.linux_options import words
from mbtool.check.report import Problem
from mbtool.check.rule import Evidence
from mbtool.errors import InputError
from mbtool.model import Severity
from mbtool.plan import xen_options
from mbtool.record import record
from mbtool.source import read_file

MAX_POLICY = 1 << 20
ID = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*")


@record
class Ignore:
    """Problems of ``rule`` in files that match the pattern ``file`` are known and accepted for a reason."""

    rule: str
    reason: str
    file: str = "*"


@record
class LocalRule:
    """An option that must be on Xen's or the kernel's command line, with a value of a form, or must not."""

    id: str
    message: str
    option: str
    xen: bool
    value: str = ""
    severity: Severity = Severity.ERROR
    forbid: bool = False

    def broken(self, boot: BootSet) -> Iterator[Evidence]:
        """Evidence when the set breaks the rule; one without Xen breaks no rule about Xen's options."""
        if self.xen and not boot.on_xen:
            return
        told = list(_options(boot, self.xen))
        values = (in_effect.of_xen if self.xen else in_effect.of_linux)(told, self.option)
        good = [value for value in values if not self.value or re.fullmatch(self.value, value)]
        if bool(good) == self.forbid:
            yield Evidence(
                self.message,
                XEN if self.xen else DOM0,
                field=self.option,
                expected=("no " if self.forbid else "") + self.option + (f"={self.value}" if self.value else ""),
                found=", ".join(f"{self.option}={value}" if value else self.option for value in values),
                severity=self.severity,
                id=self.id,
            )


@record
class Policy:
    """``fail_on``: the least severity that fails."""

    fail_on: Severity | None = None
    severities: tuple[tuple[str, Severity], ...] = ()
    ignores: tuple[Ignore, ...] = ()
    rules: tuple[LocalRule, ...] = ()

    def judge(self, problems: Sequence[Problem]) -> tuple[list[Problem], list[tuple[Problem, str]]]:
        """The problems with the policy's severities, and apart from them the ignored ones with the reasons."""
        severities = dict(self.severities)
        kept: list[Problem] = []
        ignored: list[tuple[Problem, str]] = []
        for problem in problems:
            problem = replace(problem, severity=severities.get(problem.id, problem.severity))
            reason = next((item.reason for item in self.ignores if _covers(item, problem)), None)
            if reason is None:
                kept.append(problem)
            else:
                ignored.append((problem, reason))
        return kept, ignored

    def local(self, boot: BootSet) -> Iterator[Problem]:
        """What of the set breaks the policy's own rules."""
        for rule in self.rules:
            for evidence in rule.broken(boot):
                words = Words(rule.id, "policy", rule.message)
                yield Problem(evidence, words, rule.severity)


def _covers(item: Ignore, problem: Problem) -> bool:
    return item.rule == problem.id and fnmatchcase(problem.evidence.file, item.file)


def _options(boot: BootSet, xen: bool) -> Iterator[tuple[str, str]]:
    if xen:
        for name, value, wanted in xen_options.options(boot.options):
            yield ("" if wanted else "no-") + name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
    else:
        for word in words(boot.cmdline or ""):
            name_text, _, text = word.partition("=")
            yield name_text, text.strip('"')


def load(path: Path) -> Policy:
    """Read a policy. Raises InputError, with the name of the key, for what makes no sense in it."""
    try:
        table = tomllib.loads(read_file(path, MAX_POLICY).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not TOML: {error}", source=str(path)) from error
    reader = _Reader(str(path))
    reader.known("", table, ("fail-on", "severity", "ignore", "rule"))
    rules = tuple(reader.rule(item) for item in reader.tables(table, "rule"))
    own = {rule.id for rule in rules}
    severities = table.get("severity", {})
    if not isinstance(severities, dict):
        raise reader.wrong("severity", "a table of rule ids")
    return Policy(
        reader.severity("fail-on", table["fail-on"]) if "fail-on" in table else None,
        tuple((reader.id(id_, own), reader.severity(id_, text)) for id_, text in severities.items()),
        tuple(reader.ignore(item, own) for item in reader.tables(table, "ignore")),
        rules,
    )


class _Reader:
    """Takes a policy's tables apart, with errors that name file and key."""

    def __init__(self, path: str) -> None:
        self._path = path

    def wrong(self, key: str, expected: str, found: object = "") -> InputError:
        return InputError(
            "makes no sense", source=self._path, field=key, expected=expected, found=str(found) if found else ""
        )

    def known(self, where: str, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                raise self.wrong(f"{where}{key}", f"one of: {', '.join(keys)}")

    def tables(self, table: dict[str, Any], key: str) -> list[dict[str, Any]]:
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.wrong(key, f"tables headed [[{key}]]")
        return found

    def severity(self, key: str, text: object) -> Severity:
        if not isinstance(text, str) or text not in tuple(Severity):
            raise self.wrong(key, ", ".join(Severity), text)
        return Severity(text)

    def text(self, where: str, table: dict[str, Any], key: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.wrong(f"{where}.{key}", "text", value)
        return value

    def id(self, text: str, own: set[str]) -> str:
        if text not in catalogue() and text not in own:
            near = get_close_matches(text, (*catalogue(), *own), 3)
            raise self.wrong(text, f"the id of a rule: {', '.join(near) or 'mbtool explain lists them'}")
        return text

    def ignore(self, table: dict[str, Any], own: set[str]) -> Ignore:
        self.known("ignore.", table, ("rule", "file", "reason"))
        rule = self.id(self.text("ignore", table, "rule"), own)
        return Ignore(rule, self.text("ignore", table, "reason"), self.text("ignore", table, "file", "*"))

    def rule(self, table: dict[str, Any]) -> LocalRule:
        keys = ("id", "message", "xen-option", "kernel-option", "value", "severity", "forbid")
        self.known("rule.", table, keys)
        id_ = self.text("rule", table, "id")
        if not ID.fullmatch(id_) or id_ in catalogue():
            raise self.wrong("rule.id", "capitals, digits and hyphens, and no rule of mbtool's", id_)
        kinds = [kind for kind in ("xen-option", "kernel-option") if kind in table]
        if len(kinds) != 1:
            raise self.wrong(f"rule.{id_}", "either xen-option or kernel-option")
        value = self.text("rule", table, "value", "")
        try:
            re.compile(value)
        except re.error as error:
            raise self.wrong("rule.value", f"a regular expression ({error})", value) from error
        forbid = table.get("forbid", False)
        if not isinstance(forbid, bool):
            raise self.wrong("rule.forbid", "true or false", forbid)
        return LocalRule(
            id_,
            self.text("rule", table, "message"),
            self.text("rule", table, kinds[0]),
            kinds[0] == "xen-option",
            value,
            self.severity("rule.severity", table.get("severity", "error")),
            forbid,
        )
