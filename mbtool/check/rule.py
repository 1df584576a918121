"""What a rule is: a stable id, and a function from what is checked to evidence that it is broken.

Rules see one image or one boot set. A rule says only what it found and where; what that means, how much it matters,
what happens at boot and what to do about it stand in ``rules/*.toml`` under the rule's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from mbtool.errors import MbtoolError
from mbtool.model import Field, Finding, Severity
from mbtool.record import record

if TYPE_CHECKING:
    from mbtool.check.boot_set import BootSet
    from mbtool.check.image import Image


@record
class Evidence:
    """That a rule is broken: by what, and where. Empty parts are unknown or do not apply.

    ``node``: kinds from the image's root on (``gzip/elf/multiboot2-header``); ``offset``: bytes from the start of
    the file, or of the innermost stream that ``node`` names; ``line``: number in a text, from 1, 0 unknown;
    ``written``: the file that ``line`` counts in, where ``file`` is a command line, "" for the file itself.
    ``console``: what the machine will print, where that is more than the rule's own words; ``severity`` and ``id``:
    where this case differs from its rule.
    """

    message: str
    file: str
    node: str = ""
    offset: int | None = None
    field: str = ""
    expected: str = ""
    found: str = ""
    console: str = ""
    remedy: str = ""
    severity: Severity | None = None
    id: str = ""
    line: int = 0
    written: str = ""

    @staticmethod
    def of(error: MbtoolError, file: str, **more: str) -> Evidence:
        """What a planner or a format refused. ``more``: further parts."""
        return Evidence(
            error.problem,
            file,
            offset=error.offset,
            field=error.field,
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
            **more,  # type: ignore[arg-type]
        )

    @staticmethod
    def of_finding(finding: Finding, file: str, node: str, start: int, fields: Sequence[Field] = ()) -> Evidence:
        """What a format found in ``file``, in the node whose kinds are ``node`` and which begins at ``start``.

        ``fields``: the node's, one of which the finding may be about.
        """
        at = finding.offset
        if at is None:
            at = next((field.offset for field in fields if field.name == finding.field and field.offset), 0)
        return Evidence(
            finding.message,
            file,
            node,
            start + at,
            finding.field,
            finding.expected,
            finding.found,
            remedy=finding.remedy,
            severity=finding.severity,
            id=finding.id,
        )


ImageRule = Callable[["Image"], Iterable[Evidence]]
SetRule = Callable[["BootSet"], Iterable[Evidence]]

IMAGE_RULES: dict[str, ImageRule] = {}
"""Rule id to the rule, for one image."""
SET_RULES: dict[str, SetRule] = {}
"""Rule id to the rule, for a boot set."""


def image_rule(id: str) -> Callable[[ImageRule], ImageRule]:  # noqa: A002
    """Makes a function a rule over one image; evidence without an id has this one."""
    return lambda function: IMAGE_RULES.setdefault(id, function)


def set_rule(id: str) -> Callable[[SetRule], SetRule]:  # noqa: A002
    """Makes a function a rule over a boot set; evidence without an id has this one."""
    return lambda function: SET_RULES.setdefault(id, function)
