"""A loader of boot images, as a row of ``loaders/*.toml`` tells it: see ``mbtool.check.loaders``."""

from __future__ import annotations

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

    @property
    def version(self) -> str:
        """The only version, or the newest."""
        return self.versions[-1] if self.versions else ""

    @property
    def on(self) -> str:
        """The only firmware, "" when it does not matter."""
        return self.firmware[0] if len(self.firmware) == 1 else ""

    def __str__(self) -> str:
        head = f"{self.name}-{self.version}" if self.version else self.name
        return ":".join(part for part in (head, self.mode, self.on) if part)
