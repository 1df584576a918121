"""Which Xen to plan for: what its image tells, or the version that was named."""

from __future__ import annotations

from mbtool.errors import InputError
from mbtool.formats import xen_versions
from mbtool.formats.xen_versions import XenVersion
from mbtool.record import record
from mbtool.source import Limits, Source


@record
class Hypervisor:
    """A version and how it was built. ``assumption``: what was taken for granted, in words."""

    version: XenVersion
    assumption: str = ""
    debug: bool = False
    config: tuple[str, ...] | None = None
    """The lines of its embedded configuration; None when it has none, or there is no image."""

    def setting(self, name: str, default: str) -> str:
        """The value of a setting like ``CONFIG_DOM0_MEM``, "" when not set; ``default`` without configuration."""
        if self.config is None:
            return default
        return next((line.partition("=")[2] for line in self.config if line.startswith(f"{name}=")), "")

    @property
    def pv32(self) -> bool:
        """Whether it runs 32-bit PV kernels; assumed when nobody says."""
        return self.setting("CONFIG_PV32", "y") == "y"

    @property
    def video(self) -> bool:
        """Whether it tells dom0 about the screen; assumed when nobody says."""
        return self.setting("CONFIG_VIDEO", "y") == "y"

    @property
    def dom0_mem(self) -> str:
        """What stands for ``dom0_mem=`` when Xen's command line has none (CONFIG_DOM0_MEM)."""
        return self.setting("CONFIG_DOM0_MEM", "").strip('"')


def hypervisor(version: str | None, source: Source | None, limits: Limits) -> Hypervisor:
    """The image's version, the one named, or the newest known.

    Raises InputError when both are given or the image tells no version, UnsupportedError when it is too old.
    """
    if source is None:
        if version is None:
            return Hypervisor(xen_versions.NEWEST, f"Xen {xen_versions.NEWEST}, the newest known")
        return _known(Hypervisor(xen_versions.parse(version)))
    if version is not None:
        raise InputError("a Xen image and a Xen version are given: which one?", remedy="leave one out")
    from mbtool.identify import inspect

    node = inspect(source, limits).find("xen-hypervisor")
    if node is None or node.get("version") is None:
        raise InputError("is no Xen image that tells its version", source=source.name, remedy="use --xen-version")
    config = node.find("xen-config")
    settings = None if config is None else config["settings"]
    return _known(
        Hypervisor(
            xen_versions.parse(str(node["version"])),
            debug=node.get("debug") is True,
            config=tuple(map(str, settings)) if isinstance(settings, tuple) else None,
        )
    )


def _known(found: Hypervisor) -> Hypervisor:
    version, newest = found.version, xen_versions.NEWEST
    words = "" if version.known else f"Xen {version} behaves as Xen {newest}, the newest known"
    return Hypervisor(version, words, found.debug, found.config)
