"""What goes wrong, as one family of errors that each read as one clear line.

The library raises these and nothing else; only the command line turns them into a message and an exit code.
"""

from __future__ import annotations


class MbtoolError(Exception):
    """Root of every error of mbtool: what is wrong, where, what was expected, what was found, what to do.

    ``offset`` is in bytes within ``source``; ``field`` is the path of the field (``setup_header.version``).
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str = "",
        offset: int | None = None,
        field: str = "",
        expected: str = "",
        found: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.source = source
        self.offset = offset
        self.field = field
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        """One line: source, offset, field, problem, expected, found, remedy; absent parts are left out."""
        place = self.source
        if self.offset is not None:
            place += f" at {self.offset:#x}" if place else f"at {self.offset:#x}"
        head = ": ".join(part for part in (place, self.field, self.problem) if part)
        if self.expected:
            head += f"; expected {self.expected}"
        if self.found:
            head += f", found {self.found}" if self.expected else f"; found {self.found}"
        return f"{head} ({self.remedy})" if self.remedy else head


class FormatError(MbtoolError):
    """The bytes are not what the format's specification says (truncated, lying, damaged)."""


class UnknownFormatError(FormatError):
    """No known format matches; ``reasons`` says for each format why not, as (kind, reason) pairs.

    ``found``: what it seems to be, "" when nobody knows.
    """

    def __init__(self, source: str, reasons: tuple[tuple[str, str], ...], found: str = "") -> None:
        super().__init__("unknown format", source=source, found=found)
        self.reasons = reasons


class UnsupportedError(MbtoolError):
    """The input is sound but asks for something mbtool does not do."""


class LimitError(MbtoolError):
    """Reading on would pass a limit (output bytes, expansion ratio, nesting depth)."""


class RefusedError(MbtoolError):
    """The loader or hypervisor being modelled would refuse this input; its own message comes first."""


class InputError(MbtoolError):
    """A file cannot be read or written, or an argument makes no sense."""
