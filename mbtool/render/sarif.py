"""Problems as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format), which code hosts show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from mbtool import __version__
from mbtool.check.report import Problem
from mbtool.model import OTHER_CONTENT, Severity

VERSION = "2.1.0"
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(problems: Sequence[Problem], ignored: Sequence[tuple[Problem, str]] = ()) -> dict[str, Any]:
    """The document: one run, the rules that were broken, a result per problem; ignored ones are suppressed."""
    all_problems = [*problems, *(problem for problem, _ in ignored)]
    words = {problem.id: problem.words for problem in all_problems}
    index = {id_: number for number, id_ in enumerate(words)}
    results = [_result(problem, index) for problem in problems]
    results += [
        {**_result(problem, index), "suppressions": [{"kind": "external", "justification": reason}]}
        for problem, reason in ignored
    ]
    driver = {
        "name": "mbtool",
        "version": __version__,
        "rules": [_rule(id_, words[id_]) for id_ in words],
    }
    return {"$schema": SCHEMA, "version": VERSION, "runs": [{"tool": {"driver": driver}, "results": results}]}


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


def _result(problem: Problem, index: dict[str, int]) -> dict[str, Any]:
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
        "locations": [_location(problem)],
    }


def _location(problem: Problem) -> dict[str, Any]:
    evidence = problem.evidence
    location: dict[str, Any] = {}
    if not evidence.file.endswith("command line"):
        physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(evidence.file)}}
        if evidence.offset is not None and not OTHER_CONTENT & set(evidence.node.split("/")[:-1]):
            physical["region"] = {"byteOffset": evidence.offset, "byteLength": 1}
        location["physicalLocation"] = physical
    name = "/".join(part for part in (evidence.node, evidence.field) if part) or evidence.file
    location["logicalLocations"] = [{"fullyQualifiedName": name}]
    return location


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(file)
