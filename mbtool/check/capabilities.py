"""Which loaders can start an image: a row's predicates (``mbtool.check.needs``), one after the other."""

from __future__ import annotations

from importlib import import_module

from mbtool.check.image import Image
from mbtool.check.loader import Loader
from mbtool.check.needs.seen import PREDICATES, Seen

SUBJECTS = ("multiboot", "grub", "qemu", "kernel", "xen", "kexec", "rust_vmm", "others")
"""The modules of ``mbtool.check.needs`` that hold predicates."""

__all__ = ["PREDICATES", "SUBJECTS", "why_not"]

for _name in SUBJECTS:
    import_module(f"mbtool.check.needs.{_name}")


def why_not(image: Image, loader: Loader) -> str:
    """Why a loader cannot start an image, "" when it can. Raises MbtoolError when the image cannot be read."""
    codec = image.codec
    if loader.unpacks is not None and codec and codec not in loader.unpacks:
        return f"it does not unpack {codec} files"
    seen = Seen(image, loader)
    return next((reason for name in loader.needs if (reason := PREDICATES[name](seen))), "")
