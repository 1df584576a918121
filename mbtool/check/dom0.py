"""Whether Xen builds dom0 from this kernel: the planner says it, this module names it.

Every refusal of the builder becomes evidence for the rule of its kind. The kernel's way from file to ELF:
``mbtool.build.kernel``; notes: ``mbtool.formats.xen_dom_parms``; memory: ``mbtool.plan.pv_dom0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import FormatError, InputError, MbtoolError, RefusedError
from mbtool.formats.xen_versions import XenVersion
from mbtool.model import Severity
from mbtool.plan import dom0_mem, xen_options
from mbtool.plan.dom0_mem import Dom0Mem
from mbtool.plan.dom0_pages import DEFAULT_NR_PAGES
from mbtool.plan.xen_options import Mode
from mbtool.record import record

PAGE = 4096
MIB_PAGES = 256
MOST = 1 << 16
"""MiB up to which a least amount is looked for: more than any kernel and initrd need."""
TOO_SMALL = "DOM0-MEM"
GIVES_UP = "Could not construct domain 0"
"""What Xen says at last, in the words of releases before 4.21."""
NO_ROOM = "Not enough memory to relocate the dom0 kernel image"
DAMAGED = "the compressed data is damaged"


class NoPvhEntryError(RefusedError):
    """Xen refuses a kernel for PVH, and the root of it is that it has no PVH entry point."""


@record
class Refusal:
    """How a refusal begins, the rule that it breaks, and what Xen prints (None: the whole refusal)."""

    start: str
    rule: str
    console: str | None = None


REFUSALS = (
    Refusal("the kernel file is empty", "DOM0-REFUSED", ""),
    Refusal("Cannot load bzImage v", "XEN-BZIMAGE-VERSION"),
    Refusal("internal error, invalid method", "XEN-CODEC", "internal error, invalid method"),
    Refusal(NO_ROOM, "XEN-CODEC", NO_ROOM),
    Refusal("Xen unpacks the first of", "XEN-STREAMS", ""),
    Refusal("ELF: not an ELF binary", "XEN-CODEC", "ELF: not an ELF binary"),
    Refusal("Input was encoded with settings", "XEN-XZ-CHECK", "XZ decoder"),
    Refusal("no ELF signature", "XEN-NOT-ELF", "ELF: not an ELF binary"),
    Refusal(f"{DAMAGED}: Error -3 while decompressing data: incorrect data check", "STREAM-DAMAGED", "crc error"),
    Refusal(f"{DAMAGED}: Error -3 while decompressing data: incorrect length", "STREAM-DAMAGED", "length error"),
    Refusal(f"{DAMAGED}: Error -3", "STREAM-DAMAGED", ""),
    Refusal(f"{DAMAGED}: a block's checksum", "STREAM-DAMAGED", ""),  # Xen does not look at those of lzo
    Refusal(DAMAGED, "STREAM-DAMAGED", GIVES_UP),
    Refusal("the compressed data is", "STREAM-DAMAGED", ""),
    Refusal("the last four bytes of the kernel's payload", "XEN-PAYLOAD-SIZE", ""),
    Refusal("the kernel's payload is cut short", "LINUX-PAYLOAD", ""),
    Refusal("the kernel ends before its last segment", "ELF-SEGMENT-CUT", ""),
    Refusal("ERROR: Not a Xen-ELF image", "XEN-NOTES-MISSING"),
    Refusal("ERROR: Will only load images built for the generic loader", "XEN-NOTE-LOADER"),
    Refusal("ERROR: Xen will only load images built for Xen", "XEN-NOTE-VERSION"),
    Refusal("ERROR: ELF_PADDR_OFFSET", "XEN-NOTE-ADDRESSES"),
    Refusal("ERROR: ELF start or entries", "XEN-NOTE-ADDRESSES"),
    Refusal("ERROR: P->M table base", "XEN-NOTE-ADDRESSES"),
    Refusal("VIRT_BASE is not at a page", "XEN-NOTE-ADDRESSES", ""),
    Refusal("Invalid HYPERCALL_PAGE", "XEN-NOTE-HYPERCALL"),
    Refusal("Unable to find XEN_ELFNOTE_PHYS32_ENTRY", "XEN-PVH-ENTRY"),
    Refusal("Found 32-bit PV kernel", "XEN-KERNEL-CLASS"),
    Refusal("Mismatch between Xen and DOM0 kernel", "XEN-KERNEL-CLASS"),
    Refusal("Kernel does not support Dom0 operation", "XEN-DOM0-FEATURE"),
    Refusal("Dom0 requires supervisor-mode", "XEN-SUPERVISOR", "Dom0 requires supervisor-mode execution"),
    Refusal("Dom0 expects too high a hypervisor", "DOM0-LAYOUT"),
    Refusal("DOM0 image overlaps with Xen", "DOM0-LAYOUT"),
    Refusal("DOM0 P->M table overlaps", "DOM0-LAYOUT"),
    Refusal("Not enough RAM for DOM0 P->M table", "DOM0-LAYOUT"),
    Refusal("the initial mapping", "DOM0-LAYOUT", ""),
    Refusal("INIT_P2M lies", "DOM0-LAYOUT", ""),
    Refusal("Failed to load the kernel binary", "ELF-SEGMENT-SIZE", "Failed to load the kernel binary"),
    Refusal("program segments total", "DOM0-LAYOUT", "program segments total to more than the input image size"),
    Refusal("Domain 0 allocation is too small", TOO_SMALL, "Domain 0 allocation is too small for kernel image"),
    Refusal("Dom0 allocation too small", TOO_SMALL, "Dom0 allocation too small for initial P->M table"),
    Refusal("Unable to find a memory region", TOO_SMALL),
    Refusal("d0 kernel: Address conflict", TOO_SMALL, "d0 kernel: Address conflict and not relocatable"),
    Refusal("d0 kernel: Failed find a load address", TOO_SMALL, "d0 kernel: Failed find a load address"),
    Refusal("Failed to load kernel: -1", TOO_SMALL, "Failed to load kernel: -1"),
)
"""Where a refusal is none of these, the rule is DOM0-REFUSED."""


@set_rule("DOM0-MEM-SYNTAX")
def memory_syntax(boot: BootSet) -> Iterator[Evidence]:
    """Xen cannot read dom0_mem."""
    if boot.on_xen:
        try:
            dom0_mem.parse(xen_options.dom0_mem(boot.options))
        except InputError as error:
            words = "dom0_mem is not an amount that Xen understands"
            yield Evidence(words, "Xen's command line", field="dom0_mem", expected=error.expected)


@set_rule("DOM0-REFUSED")
def construction(boot: BootSet) -> Iterator[Evidence]:
    """Xen does not build dom0 from the kernel, in the mode and with the memory asked for."""
    if not boot.on_xen or boot.kernel is None:
        return
    try:
        mem = dom0_mem.parse(xen_options.dom0_mem(boot.options))
    except InputError:
        mem = Dom0Mem()  # DOM0-MEM-SYNTAX says so
    stated = not mem.needs_host
    nr_pages = dom0_mem.compute_nr_pages(mem, dom0_mem.LONG_MAX)
    if not stated and (mem.max.needs_host or nr_pages > DEFAULT_NR_PAGES):
        nr_pages = DEFAULT_NR_PAGES
    elif not stated:
        stated = True  # max: grants no more than this on any host
    construct = _pvh if boot.mode is Mode.PVH else _pv
    try:
        construct(boot, boot.kernel, max(1, nr_pages))
    except (RefusedError, FormatError) as error:
        yield _evidence(error, boot.kernel, boot.version, stated=stated)
    except MbtoolError:
        return  # nothing is known, nothing is said


@set_rule("XEN-ENTRY-ZEROS")
def entry(boot: BootSet) -> Iterator[Evidence]:
    """No code of the kernel's is where Xen starts it: zeros, or Xen's own hypercall page."""
    from mbtool.formats import xen_dom_parms
    from mbtool.formats.elf_file import parse_elf

    if not boot.on_xen or boot.kernel is None:
        return
    hvm = boot.mode is Mode.PVH
    try:
        elf = parse_elf(boot.kernel.dom0_kernel(boot.version).elf)
        parms = xen_dom_parms.derive(elf.source, elf, hvm=hvm, version=boot.version)
    except MbtoolError:
        return  # DOM0-REFUSED says so
    at, offset = (parms.phys_entry, 0) if hvm else (parms.virt_entry, parms.virt_offset)
    if at is None:
        return
    starts = [(each.p_paddr + offset, each.p_filesz, each.p_memsz) for each in parms.segments]
    in_file = any(start <= at < start + size for start, size, _ in starts)
    if not in_file and any(start <= at < start + size for start, _, size in starts):
        yield Evidence(
            "the entry point lies in memory that is only zeros",
            boot.kernel.path,
            field="PHYS32_ENTRY" if hvm else "ENTRY",
            expected="an address of bytes that the file holds",
            found=f"{at:#x}",
        )
    page = parms.virt_hypercall
    if not hvm and page is not None and page <= at < page + PAGE:
        yield Evidence(
            "the entry point lies in the hypercall page",
            boot.kernel.path,
            field="HYPERCALL_PAGE",
            expected="a page that holds nothing else",
            found=f"{page:#x}, and ENTRY {at:#x}",
            id="XEN-ENTRY-HYPERCALL",
        )


def _pvh(boot: BootSet, kernel: Image, nr_pages: int) -> None:
    """Do all that Xen does for a PVH dom0 before it starts, on a machine that is made up.

    Raises MbtoolError where Xen gives up.
    """
    from mbtool.build.dom0 import require_segments
    from mbtool.formats import xen_dom_parms
    from mbtool.formats.elf_file import parse_elf
    from mbtool.plan import pvh, pvh_dom0

    elf = parse_elf(kernel.dom0_kernel(boot.version).elf)
    try:
        parms = xen_dom_parms.derive(elf.source, elf, hvm=True, version=boot.version)
    except RefusedError as error:
        if pvh.entry_point(elf) is None:  # without the note Xen takes e_entry, and may stumble over that first
            raise NoPvhEntryError(error.problem, source=error.source) from error
        raise
    require_segments(parms, elf.source)
    length, line = _initrd_len(boot), boot.dom0_cmdline

    def plan(pages: int) -> None:
        pvh_dom0.plan(parms, initrd_len=length, nr_pages=pages, cmdline=line, version=boot.version)

    try:
        plan(nr_pages)
    except RefusedError as error:
        if _row(error).rule == TOO_SMALL and (least := _least(plan, nr_pages // MIB_PAGES)) is not None:
            error.remedy = f"give dom0_mem={least}M or more"
        raise


def _least(plan: Callable[[int], None], too_few: int) -> int | None:
    """MiB of memory with which a plan is not refused, None above MOST; ``too_few`` are not enough."""

    def refused(mib: int) -> bool:
        try:
            plan(mib * MIB_PAGES)
        except RefusedError:
            return True
        return False

    enough = max(1, too_few)
    while refused(enough):
        too_few, enough = enough, enough * 2
        if enough > MOST:
            return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (middle, enough) if refused(middle) else (too_few, middle)
    return enough


def _pv(boot: BootSet, kernel: Image, nr_pages: int) -> None:
    """Do all that Xen does for a PV dom0 before it starts. Raises MbtoolError where Xen gives up."""
    from mbtool.build.dom0 import Request, plan_dom0

    request = Request(
        Path(kernel.path),
        cmdline=boot.cmdline,
        xen_version=str(boot.version),
        nr_pages=nr_pages,
        limits=boot.limits,
    )
    initrd = None if boot.initrd is None else boot.initrd.source
    plan_dom0(request, kernel.source, initrd, None, kernel.dom0_kernel)


def _initrd_len(boot: BootSet) -> int | None:
    return None if boot.initrd is None else boot.initrd.source.size


def _evidence(error: MbtoolError, kernel: Image, version: XenVersion, *, stated: bool) -> Evidence:
    row = _row(error)
    evidence = Evidence.of(error, kernel.path, id=row.rule)
    words = error.problem if isinstance(error, RefusedError) else ""
    console = words if row.console is None else row.console.replace(GIVES_UP, version.unconstructed)
    if row.rule == TOO_SMALL and not stated:
        message = "dom0_mem names no amount; less memory than this will not do"
        evidence = replace(evidence, message=message, found="", severity=Severity.INFO)
    # A planner's offset is in whatever it was looking at.
    return replace(evidence, console=console, offset=None)


def _row(error: MbtoolError) -> Refusal:
    if isinstance(error, NoPvhEntryError):
        return Refusal("", "XEN-PVH-ENTRY")
    return next((row for row in REFUSALS if error.problem.startswith(row.start)), Refusal("", "DOM0-REFUSED"))
