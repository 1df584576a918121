"""Collects what is found while reading many like parts, without a line for each of a million bad ones."""

from __future__ import annotations

from mbtool.model import Finding, Severity

SHOWN = 8
"""Findings of one id that are kept; the rest are only counted."""


class Findings:
    """Findings in the order they were met, at most ``SHOWN`` of each id."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: dict[str, int] = {}

    def add(self, finding: Finding) -> None:
        """Keep the finding, or count it when enough like it are kept."""
        count = self._counts[finding.id] = self._counts.get(finding.id, 0) + 1
        if count <= SHOWN:
            self._kept.append(finding)

    def all(self) -> tuple[Finding, ...]:
        """What was kept, then one line per id of which there were more."""
        more = tuple(
            Finding(id, self._severity(id), f"{count - SHOWN} more like this")
            for id, count in self._counts.items()  # noqa: A001
            if count > SHOWN
        )
        return (*self._kept, *more)

    def _severity(self, id: str) -> Severity:  # noqa: A002
        return next(finding.severity for finding in self._kept if finding.id == id)
