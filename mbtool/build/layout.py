"""A PV dom0's plan as the JSON document ``mbtool/layout/1`` (mbtool/schemas/layout.schema.json)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mbtool.formats import pv_start_info
from mbtool.plan.memory import PAGE, Range
from mbtool.plan.pv_dom0 import Plan, start_info_page
from mbtool.render.json import finding_json, hex_json, node_json, range_json
from mbtool.source import BytesSource


def layout_json(plan: Plan, assumptions: Iterable[str]) -> dict[str, Any]:
    """The whole plan. ``assumptions``: what was taken for granted, in words. Ranges are half-open."""
    space, info = plan.space, plan.start_info
    virtual = {
        "kernel": space.kernel,
        "initrd": space.initrd or None,
        "p2m": plan.p2m,
        "start_info": space.start_info,
        "page_tables": space.page_tables,
        "boot_stack": space.stack,
        "total": space.total,
    }
    tables = Range.at(plan.page_table_base, space.nr_pt_frames * PAGE)
    return {
        "schema": "mbtool/layout/1",
        "mode": "pv",
        "xen": {"version": str(plan.version), "debug": plan.machine.debug},
        "nr_pages": plan.nr_pages,
        "entry": hex_json(plan.parms.virt_entry),
        "virtual": {name: None if span is None else range_json(span) for name, span in virtual.items()},
        "machine": {
            "alloc": range_json(plan.alloc),
            "initrd": None if plan.initrd is None else range_json(plan.initrd),
            "page_tables": range_json(tables),
        },
        "pfn": {
            "initrd": _pfns(plan.initrd_pfn, plan.initrd_pages) if plan.initrd_pages else None,
            "decided": _pfns(0, info.first_p2m_pfn),
            "p2m_frames": _pfns(info.first_p2m_pfn, info.nr_p2m_frames) if info.nr_p2m_frames else None,
        },
        "registers": {name: hex_json(value) for name, value in plan.registers.items()},
        "start_info": node_json(pv_start_info.inspect(BytesSource(start_info_page(plan)))),
        "assumptions": list(assumptions),
        "findings": [finding_json(finding) for finding in plan.findings],
    }


def _pfns(first: int, count: int) -> dict[str, int]:
    """Page frame numbers: ``count`` of them from ``first`` on."""
    return {"first": first, "count": count}
