"""A loader of boot images, as a row of ``loaders/*.toml`` tells it: see ``mbtool.check.loaders``."""

from __future__ import annotations

from fnmatch import fnmatchcase

from mbtool.record import record


@record
class Loader:
    """A loader, one of its ways, and for a verdict one version and firmware ("" when that does not matter)."""

    name: str
    mode: str
    title: str
    needs: tuple[str, ...]
    sources: tuple[str, ...]
    versions: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    unpacks: tuple[str, ...] | None = None
    payloads: tuple[str, ...] = ()
    protocol: tuple[int, int] = (0, 0)
    says: tuple[tuple[str, str], ...] = ()
    """How reasons begin (``*``: anything), or ids of rules, and what the loader prints for each."""

    @property
    def version(self) -> str:
        """The only version, or the newest."""
        return self.versions[-1] if self.versions else ""

    @property
    def on(self) -> str:
        """The only firmware, "" when it does not matter."""
        return self.firmware[0] if len(self.firmware) == 1 else ""

    def words_for(self, reason: str) -> str:
        """What the loader prints for this reason, or because of the rule of this id, "" where that is not known."""
        return next((text for start, text in self.says if fnmatchcase(reason, f"{start}*")), "")

    def __str__(self) -> str:
        head = f"{self.name}-{self.version}" if self.version else self.name
        return ":".join(part for part in (head, self.mode, self.on) if part)
