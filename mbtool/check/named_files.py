"""Files that a boot configuration names, looked for where a loader on an ESP would."""

from __future__ import annotations

from pathlib import Path

from mbtool.formats.xen_cfg import Line


def find(config: str, name: str) -> Path | None:
    """The file that a configuration names: beside it, or from the root of the ESP; as on FAT, case counts not."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    folder = Path(config).absolute().parent
    bases = [folder, *folder.parents] if name[:1] in ("/", "\\") else [folder]
    return next((found for base in bases if parts and (found := _below(base, parts)) is not None), None)


def _below(path: Path, parts: list[str]) -> Path | None:
    for part in parts:
        exact = path / part
        if not exact.exists():
            if not path.is_dir():
                return None
            other = next((entry for entry in sorted(path.iterdir()) if entry.name.lower() == part.lower()), None)
            if other is None:
                return None
            exact = other
        path = exact
    return path if path.is_file() else None


def named(line: Line | None) -> str:
    """The file that a line names."""
    return line.value.split(" ")[0] if line else ""
