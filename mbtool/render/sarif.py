"""Problems as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format), which code hosts show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from mbtool import __version__
from mbtool.check.report import Problem
from mbtool.check.rule import Evidence
from mbtool.model import OTHER_CONTENT, Severity

VERSION = "2.1.0"
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
ROOT = "%SRCROOT%"
"""What relative paths begin at, by the name that code hosts know."""
LINES = "command line"
"""How command lines end, which are no files."""


def sarif(
    problems: Sequence[Problem], ignored: Sequence[tuple[Problem, str]] = (), about: str = ""
) -> dict[str, Any]:
    """The document: one run, the rules that were broken, a result per problem; ignored ones are suppressed.

    ``about``: the file that stands for a command line which is in no file, for code hosts take no result without a
    place. Paths are relative where they were given so.
    """
    all_problems = [*problems, *(problem for problem, _ in ignored)]
    words = {problem.id: problem.words for problem in all_problems}
    index = {id_: number for number, id_ in enumerate(words)}
    results = [_result(problem, index, about) for problem in problems]
    results += [
        {**_result(problem, index, about), "suppressions": [{"kind": "external", "justification": reason}]}
        for problem, reason in ignored
    ]
    driver = {
        "name": "mbtool",
        "version": __version__,
        "rules": [_rule(id_, words[id_]) for id_ in words],
    }
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The directory that mbtool was started in."}}},
        "results": results,
    }
    return {"$schema": SCHEMA, "version": VERSION, "runs": [run]}


def _rule(id_: str, words: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": id_, "shortDescription": {"text": words.title}}
    text = " ".join(part for part in (words.meaning, words.boot) if part)
    if text:
        rule["fullDescription"] = {"text": text}
    if words.remedy:
        rule["help"] = {"text": words.remedy}
    if words.severity:
        rule["defaultConfiguration"] = {"level": LEVELS[words.severity]}
    return rule


def _result(problem: Problem, index: dict[str, int], about: str) -> dict[str, Any]:
    evidence = problem.evidence
    parts = [evidence.message]
    if evidence.expected:
        parts.append(f"expected {evidence.expected}")
    if evidence.found:
        parts.append(f"found {evidence.found}")
    text = "; ".join(parts) + "."
    for words in (problem.words.boot, problem.remedy):
        text += f" {words}" if words else ""
    return {
        "ruleId": problem.id,
        "ruleIndex": index[problem.id],
        "level": LEVELS[problem.severity],
        "message": {"text": text},
        "locations": [_location(problem, about)],
    }


def _location(problem: Problem, about: str) -> dict[str, Any]:
    evidence = problem.evidence
    location: dict[str, Any] = {}
    file = evidence.written or (about if evidence.file.endswith(LINES) else evidence.file)
    if file:
        location["physicalLocation"] = {"artifactLocation": _artifact(file)}
        region = _region(evidence)
        if region:
            location["physicalLocation"]["region"] = region
    name = "/".join(part for part in (evidence.node, evidence.field) if part) or evidence.file
    location["logicalLocations"] = [{"fullyQualifiedName": name}]
    return location


def _region(evidence: Evidence) -> dict[str, int]:
    """A line of a text, or a byte of a file, though not of a stream within it."""
    if evidence.line:
        return {"startLine": evidence.line}
    if evidence.offset is not None and not OTHER_CONTENT & set(evidence.node.split("/")[:-1]):
        return {"byteOffset": evidence.offset, "byteLength": 1}
    return {}


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(file)
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(os.fsencode(file)), "uriBaseId": ROOT}
