"""The directory that ``build-dom0`` writes: the plan's lines and JSON, the blobs, and a manifest of it all.

Nothing in it depends on the clock or on where files lie: the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbtool import __version__
from mbtool.build.dom0 import ACPI, HVM_START_INFO, Planned, Request, plan_dom0
from mbtool.build.layout import layout_json
from mbtool.build.output import OutputDirectory, Written
from mbtool.errors import MbtoolError
from mbtool.model import Hex
from mbtool.plan import arrangement, p2m, page_tables, pv_dom0
from mbtool.record import record
from mbtool.render.json import dumps, finding_json, value_json
from mbtool.source import Source, open_file

if TYPE_CHECKING:
    from mbtool.build.dom0_disk import DiskBoot
    from mbtool.build.dom0_pvh import PlannedPvh

LAYOUT_TXT, LAYOUT_JSON, START_INFO = "layout.txt", "layout.json", "start_info.bin"
PAGE_TABLES, P2M, MANIFEST = "pagetables.bin", "p2m.bin", "manifest.json"
DISK = "disk.img"
"""Written as well where the request asks for a disk."""
FILES = (LAYOUT_TXT, LAYOUT_JSON, START_INFO, PAGE_TABLES, P2M, MANIFEST)
PVH_FILES = (LAYOUT_TXT, LAYOUT_JSON, HVM_START_INFO, ACPI, MANIFEST)


@record
class Built:
    """What was planned, the files written for it, and how the disk boots (None without one)."""

    planned: Planned | PlannedPvh
    lines: tuple[str, ...]
    """Those of layout.txt."""
    files: tuple[Written, ...]
    manifest: dict[str, Any]
    """The document in manifest.json."""
    disk: DiskBoot | None = None


def build_dom0(
    request: Request,
    output: Path,
    *,
    force: bool = False,
    sync: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Plan and write everything into the directory ``output``; ``sync`` and ``progress`` are those of the disk.

    Raises MbtoolError, and then has written nothing: see ``plan_dom0`` and ``OutputDirectory``.
    """
    disk: DiskBoot | None = None
    if request.disk:
        from mbtool.build import dom0_disk

        request = dom0_disk.complete(request)
    with (
        OutputDirectory(output, {*FILES, *PVH_FILES, DISK}, force=force, sync=sync) as directory,
        ExitStack() as stack,
    ):
        paths = {"kernel": request.kernel, "initrd": request.initrd, "xen": request.xen, "xen-efi": request.xen_efi}
        sources = {role: stack.enter_context(open_file(path)) for role, path in paths.items() if path is not None}
        with _digests(sources) as inputs:
            content = _pvh(request, sources) if request.pvh else _pv(request, sources)
        planned = content.planned
        directory.write(LAYOUT_TXT, _text("\n".join(content.lines)))
        directory.write(LAYOUT_JSON, _text(dumps(content.layout, pretty=True)))
        for name, data in content.blobs:
            directory.write(name, data)
        if request.disk:
            with directory.open(DISK) as fd:
                disk = dom0_disk.write(request, planned, fd, progress)
        manifest = _manifest(request, planned, inputs, disk, directory.files)
        directory.write(MANIFEST, _text(dumps(manifest, pretty=True)))
    return Built(planned, content.lines, tuple(directory.files), manifest, disk)


@record
class _Content:
    """What the directory gets to hold: lines and document of the layout, blobs by file name."""

    planned: Planned | PlannedPvh
    lines: tuple[str, ...]
    layout: dict[str, Any]
    blobs: Iterable[tuple[str, bytes | Iterable[bytes]]]


def _pv(request: Request, sources: Mapping[str, Source]) -> _Content:
    planned = plan_dom0(request, sources["kernel"], sources.get("initrd"), sources.get("xen"))
    plan = planned.plan
    blobs = (
        (START_INFO, pv_dom0.start_info_page(plan)),
        (PAGE_TABLES, page_tables.frames(plan)),
        (P2M, p2m.blocks(plan)),
    )
    return _Content(planned, arrangement.lines(plan), layout_json(plan, planned.assumptions), blobs)


def _pvh(request: Request, sources: Mapping[str, Source]) -> _Content:
    from mbtool.build import dom0_pvh

    initrd = sources.get("initrd")
    planned = dom0_pvh.plan_pvh(request, sources["kernel"], initrd, sources.get("xen"))
    blobs = dom0_pvh.contents(planned, initrd)
    return _Content(planned, dom0_pvh.lines(planned.plan), dom0_pvh.layout_json(planned), blobs)


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
    planned: Planned | PlannedPvh,
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
            "mode": "pvh" if request.pvh else "pv",
            "dom0_mem": request.dom0_mem,
            "cmdline": request.cmdline,
            "xen_cmdline": request.xen_cmdline,
            "xen_version": str(planned.plan.version),
            "alloc_base": _address(request.alloc_base),
            "initrd_base": _address(request.initrd_base),
            "nr_pages": request.nr_pages,
            "host_mem": request.host_mem,
            "predict_frames": request.predict_frames,
            "e820": request.e820 and Path(request.e820).name,
            "vcpus": request.vcpus,
            "initrd_cmdline": request.initrd_cmdline,
        },
        "disk": disk
        and {"firmware": list(disk.firmware), "xen_cmdline": disk.xen_cmdline, "notes": list(disk.notes)},
        "outputs": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files],
        "assumptions": list(planned.assumptions),
        "findings": [finding_json(finding) for finding in planned.plan.findings],
    }


def _address(value: int | None) -> Any:
    return None if value is None else value_json(Hex(value))


def _text(text: str) -> bytes:
    return f"{text}\n".encode()
