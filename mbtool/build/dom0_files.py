"""The directory that ``build-dom0`` writes: the plan's lines and JSON, the blobs, and a manifest of it all.

Nothing in it depends on the clock or on where files lie: the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbtool import __version__
from mbtool.build.dom0 import Planned, Request, plan_dom0
from mbtool.build.layout import layout_json
from mbtool.build.output import OutputDirectory, Written
from mbtool.errors import MbtoolError
from mbtool.model import Hex
from mbtool.plan import arrangement, p2m, page_tables, pv_dom0
from mbtool.record import record
from mbtool.render.json import dumps, value_json
from mbtool.source import Source, open_file

if TYPE_CHECKING:
    from mbtool.build.dom0_disk import DiskBoot

LAYOUT_TXT, LAYOUT_JSON, START_INFO = "layout.txt", "layout.json", "start_info.bin"
PAGE_TABLES, P2M, MANIFEST = "pagetables.bin", "p2m.bin", "manifest.json"
FILES = (LAYOUT_TXT, LAYOUT_JSON, START_INFO, PAGE_TABLES, P2M, MANIFEST)
DISK = "disk.img"
"""Written as well where the request asks for a disk."""


@record
class Built:
    """What was planned, the files written for it, and how the disk boots (None without one)."""

    planned: Planned
    files: tuple[Written, ...]
    disk: DiskBoot | None = None


def build_dom0(request: Request, output: Path, *, force: bool = False) -> Built:
    """Plan and write everything into the directory ``output``.

    Raises MbtoolError, and then has written nothing: see ``plan_dom0`` and ``OutputDirectory``.
    """
    disk: DiskBoot | None = None
    if request.disk:
        from mbtool.build import dom0_disk

        request = dom0_disk.complete(request)
    with OutputDirectory(output, (*FILES, DISK), force=force) as directory, ExitStack() as stack:
        paths = {"kernel": request.kernel, "initrd": request.initrd, "xen": request.xen, "xen-efi": request.xen_efi}
        sources = {role: stack.enter_context(open_file(path)) for role, path in paths.items() if path is not None}
        with _digests(sources) as inputs:
            planned = plan_dom0(request, sources["kernel"], sources.get("initrd"), sources.get("xen"))
        plan = planned.plan
        directory.write(LAYOUT_TXT, _text("\n".join(arrangement.lines(plan))))
        directory.write(LAYOUT_JSON, _text(dumps(layout_json(plan, planned.assumptions), pretty=True)))
        directory.write(START_INFO, pv_dom0.start_info_page(plan))
        directory.write(PAGE_TABLES, page_tables.frames(plan))
        directory.write(P2M, p2m.blocks(plan))
        if request.disk:
            with directory.open(DISK) as fd:
                disk = dom0_disk.write(request, planned, fd)
        manifest = _manifest(request, planned, inputs, disk, directory.files)
        directory.write(MANIFEST, _text(dumps(manifest, pretty=True)))
    return Built(planned, tuple(directory.files), disk)


@contextmanager
def _digests(sources: Mapping[str, Source]) -> Iterator[list[dict[str, Any]]]:
    """Role, name, size and SHA-256 of every source, computed while the caller is busy; complete at the end."""
    results: list[dict[str, Any]] = []
    errors: list[MbtoolError] = []

    def work() -> None:
        try:
            for role, source in sources.items():
                digest = hashlib.sha256()
                for piece in source.chunks():
                    digest.update(piece)
                name = Path(source.name).name
                results.append({"role": role, "name": name, "size": source.size, "sha256": digest.hexdigest()})
        except MbtoolError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        thread.join()
    if errors:
        raise errors[0]


def _manifest(
    request: Request,
    planned: Planned,
    inputs: list[dict[str, Any]],
    disk: DiskBoot | None,
    files: list[Written],
) -> dict[str, Any]:
    return {
        "schema": "mbtool/manifest/1",
        "mbtool": __version__,
        "command": "build-dom0",
        "inputs": inputs,
        "options": {
            "dom0_mem": request.dom0_mem,
            "cmdline": request.cmdline,
            "xen_cmdline": request.xen_cmdline,
            "xen_version": str(planned.plan.version),
            "alloc_base": _address(request.alloc_base),
            "initrd_base": _address(request.initrd_base),
            "nr_pages": request.nr_pages,
            "host_mem": request.host_mem,
        },
        "disk": disk
        and {"firmware": list(disk.firmware), "xen_cmdline": disk.xen_cmdline, "notes": list(disk.notes)},
        "outputs": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files],
    }


def _address(value: int | None) -> Any:
    return None if value is None else value_json(Hex(value))


def _text(text: str) -> bytes:
    return f"{text}\n".encode()
