"""The setup header of the Linux/x86 boot protocol, versions 2.00 to 2.15, and how it divides a kernel file.

Source: Linux, Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header", "Details of Header Fields") and
arch/x86/include/uapi/asm/bootparam.h (``struct setup_header``).
"""

from __future__ import annotations

from dataclasses import replace

from mbtool.errors import FormatError
from mbtool.formats import linux_boot_names as names
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Int8ul, Int16ul, Int32ul, Int64ul, Struct
from mbtool.model import Field
from mbtool.record import record
from mbtool.source import Source

START = 0x1F1
"""File offset (bytes) of the header, and its offset in ``boot_params``."""
MIN_END, MAX_END = 0x208, 0x281
"""Where the shortest header ends that has a version, and the longest that the jump at 0x200 can skip."""
MAGIC = int.from_bytes(b"HdrS", "little")
BOOT_FLAG = 0xAA55
SECTOR, PARAGRAPH = 512, 16
"""Bytes in the units of setup_sects and of syssize."""
SHORT_JUMP = 0xEB
LATEST = (2, 15)
BURNT = (2, 14)
"""The version that boot.rst says not to use: a field of it was taken back. Its header is that of 2.13."""

_OLD, _V200, _V210 = (0, 0), (2, 0), (2, 10)
_FIELDS = (
    ("setup_sects", Int8ul, _OLD),
    ("root_flags", Int16ul, _OLD),
    ("syssize", Int32ul, _OLD),
    ("ram_size", Int16ul, _OLD),
    ("vid_mode", Int16ul, _OLD),
    ("root_dev", Int16ul, _OLD),
    ("boot_flag", Int16ul, _OLD),
    ("jump", Int16ul, _V200),
    ("header", Int32ul, _V200),
    ("version", Int16ul, _V200),
    ("realmode_swtch", Int32ul, _V200),
    ("start_sys_seg", Int16ul, _V200),
    ("kernel_version", Int16ul, _V200),
    ("type_of_loader", Int8ul, _V200),
    ("loadflags", Int8ul, _V200),
    ("setup_move_size", Int16ul, _V200),
    ("code32_start", Int32ul, _V200),
    ("ramdisk_image", Int32ul, _V200),
    ("ramdisk_size", Int32ul, _V200),
    ("bootsect_kludge", Int32ul, _V200),
    ("heap_end_ptr", Int16ul, (2, 1)),
    ("ext_loader_ver", Int8ul, (2, 2)),
    ("ext_loader_type", Int8ul, (2, 2)),
    ("cmd_line_ptr", Int32ul, (2, 2)),
    ("initrd_addr_max", Int32ul, (2, 3)),
    ("kernel_alignment", Int32ul, (2, 5)),
    ("relocatable_kernel", Int8ul, (2, 5)),
    ("min_alignment", Int8ul, _V210),
    ("xloadflags", Int16ul, (2, 12)),
    ("cmdline_size", Int32ul, (2, 6)),
    ("hardware_subarch", Int32ul, (2, 7)),
    ("hardware_subarch_data", Int64ul, (2, 7)),
    ("payload_offset", Int32ul, (2, 8)),
    ("payload_length", Int32ul, (2, 8)),
    ("setup_data", Int64ul, (2, 9)),
    ("pref_address", Int64ul, _V210),
    ("init_size", Int32ul, _V210),
    ("handover_offset", Int32ul, (2, 11)),
    ("kernel_info_offset", Int32ul, (2, 15)),
)
SINCE = {name: version for name, _, version in _FIELDS}
"""The protocol version that brought each field; (0, 0) are those of the old boot sector."""
_COUNTS = {
    "setup_sects",
    "syssize",
    "setup_move_size",
    "ramdisk_size",
    "ext_loader_ver",
    "ext_loader_type",
    "relocatable_kernel",
    "min_alignment",
    "cmdline_size",
    "hardware_subarch",
    "payload_length",
    "init_size",
}
"""Sizes and numbers; all other fields are addresses, offsets, masks or magics."""


@record
class SetupHeader:
    """``struct setup_header``. Fields that the header's version does not have hold what is in their place.

    Field names are the specification's; ``protocol`` is the ``version`` field as a pair. ``rest`` are the bytes of
    the header behind the last field that is known for its version.
    """

    setup_sects: int = 0
    root_flags: int = 0
    syssize: int = 0
    ram_size: int = 0
    vid_mode: int = 0
    root_dev: int = 0
    boot_flag: int = BOOT_FLAG
    jump: int = 0x6A00 | SHORT_JUMP
    header: int = MAGIC
    version: int = 0x020F
    realmode_swtch: int = 0
    start_sys_seg: int = 0
    kernel_version: int = 0
    type_of_loader: int = 0
    loadflags: int = 0
    setup_move_size: int = 0
    code32_start: int = 0
    ramdisk_image: int = 0
    ramdisk_size: int = 0
    bootsect_kludge: int = 0
    heap_end_ptr: int = 0
    ext_loader_ver: int = 0
    ext_loader_type: int = 0
    cmd_line_ptr: int = 0
    initrd_addr_max: int = 0
    kernel_alignment: int = 0
    relocatable_kernel: int = 0
    min_alignment: int = 0
    xloadflags: int = 0
    cmdline_size: int = 0
    hardware_subarch: int = 0
    hardware_subarch_data: int = 0
    payload_offset: int = 0
    payload_length: int = 0
    setup_data: int = 0
    pref_address: int = 0
    init_size: int = 0
    handover_offset: int = 0
    kernel_info_offset: int = 0
    rest: bytes = b""

    @property
    def old(self) -> bool:
        """A kernel older than protocol 2.00: without ``HdrS``, all from 0x200 on is code."""
        return self.header != MAGIC

    @property
    def protocol(self) -> tuple[int, int]:
        """(major, minor); (0, 0) for an old kernel."""
        return (0, 0) if self.old else (self.version >> 8, self.version & 0xFF)

    @property
    def has_fields_of(self) -> tuple[int, int]:
        """The version whose fields the header has: there was none with ``HdrS`` before 2.00."""
        return (0, 0) if self.old else max(self.protocol, (2, 0))

    def has(self, name: str) -> bool:
        """Whether the header has this field: its version knows it and its length reaches behind it."""
        offset, size = SETUP_HEADER.offsets[name]
        return SINCE[name] <= self.has_fields_of and START + offset + size <= self.end

    @property
    def measured(self) -> bool:
        """Whether the jump at 0x200 tells the header's length: it is a short one, forward."""
        return self.jump & 0xFF == SHORT_JUMP and MIN_END <= 0x202 + (self.jump >> 8) <= MAX_END

    @property
    def version_end(self) -> int:
        """Offset (bytes, from the start of the file) behind the last field that the header's version has."""
        return _END[min(self.has_fields_of, LATEST)]

    @property
    def end(self) -> int:
        """Offset (bytes, from the start of the file) behind the header: 0x202 plus the byte at 0x201.

        Where that tells nothing, the end that the version implies.
        """
        return 0x202 + (self.jump >> 8) if self.measured and not self.old else self.version_end

    @property
    def sectors(self) -> int:
        """Setup sectors behind the boot sector; a stored 0 means 4."""
        return self.setup_sects or 4

    @property
    def setup_size(self) -> int:
        """Bytes of the real-mode part: boot sector and setup."""
        return (self.sectors + 1) * SECTOR

    @property
    def loaded_high(self) -> bool:
        """A bzImage: the protected-mode part belongs at 1 MiB instead of 64 KiB."""
        return bool(self.has("loadflags") and self.loadflags & names.LOADED_HIGH)

    @property
    def system_size(self) -> int | None:
        """Bytes of the protected-mode part; None where syssize cannot tell: 16 bits of it, and a bzImage."""
        if self.protocol >= (2, 4):
            return self.syssize * PARAGRAPH
        return None if self.loaded_high else (self.syssize & 0xFFFF) * PARAGRAPH

    @property
    def payload(self) -> tuple[int, int] | None:
        """File offset and length (bytes) of the payload, None when the header names none."""
        if not self.has("payload_length") or not self.payload_offset:
            return None
        return self.setup_size + self.payload_offset, self.payload_length

    @property
    def loader(self) -> str:
        """The boot loader's name and version, from type_of_loader and the two fields that extend it."""
        return names.loader(self.type_of_loader, self.ext_loader_type, self.ext_loader_ver)


def _version_words(version: int) -> str:
    return f"boot protocol {version >> 8}.{version & 0xFF:02}"


SETUP_HEADER = Layout(
    SetupHeader,
    Struct(*(name / kind for name, kind, _ in _FIELDS)),
    beyond={"rest"},
    hex=SINCE.keys() - _COUNTS,
    telling={"version", "loadflags", "xloadflags", "relocatable_kernel", "pref_address", "init_size"},
    meanings={
        "setup_sects": lambda count: f"real-mode part of {((count or 4) + 1) * SECTOR} bytes",
        "root_flags": lambda flags: "root is mounted read-only" if flags else "root is mounted read-write",
        "syssize": lambda count: f"protected-mode part of {count * PARAGRAPH} bytes",
        "ram_size": names.ram_size,
        "vid_mode": choice_names(names.VID_MODE, ""),
        "root_dev": lambda device: f"major {device >> 8}, minor {device & 0xFF}" if device else "none",
        "boot_flag": lambda flag: "" if flag == BOOT_FLAG else "not 0xaa55",
        "jump": lambda jump: "" if jump & 0xFF == SHORT_JUMP else "no short jump",
        "header": lambda magic: '"HdrS"' if magic == MAGIC else "no HdrS",
        "version": _version_words,
        "realmode_swtch": lambda address: "" if address else "none",
        "kernel_version": lambda at: f"string at {at + 0x200:#x}" if at else "none",
        "type_of_loader": lambda value: names.loader(value, 0, 0) if value else "not set",
        "loadflags": names.loadflags,
        "heap_end_ptr": lambda end: f"up to {end + 0x200:#x} of the real-mode part" if end else "",
        "kernel_alignment": lambda align: f"{align} bytes",
        "relocatable_kernel": choice_names({0: "no"}, "yes"),
        "min_alignment": lambda power: (
            f"{1 << power if power < 64 else f'2^{power}'} bytes" if power else "not given"
        ),
        "xloadflags": names.xloadflags,
        "cmdline_size": lambda size: f"at most {size} bytes and a NUL",
        "hardware_subarch": choice_names(names.HARDWARE_SUBARCH),
        "setup_data": lambda address: "" if address else "none",
        "init_size": lambda size: f"{size / (1 << 20):.1f} MiB at the run-time address",
    },
)
FULL_END = START + SETUP_HEADER.size
"""Where the header of the newest known version ends: 0x26c."""


_END = {
    version: START
    + max(offset + size for name, (offset, size) in SETUP_HEADER.offsets.items() if SINCE[name] <= version)
    for version in ((0, 0), *((2, minor) for minor in range(LATEST[1] + 1)))
}
"""Version to the offset behind the last field that it has."""


def parse(data: bytes, *, stop: int | None = None, source: str = "") -> SetupHeader:
    """The header in the head of a kernel file or in a ``boot_params`` page; at least 0x202 bytes.

    Without ``HdrS`` it is that of a kernel older than 2.00: only the fields before 0x200 mean anything. ``rest``
    reaches to ``stop``, or to the header's own end. Raises FormatError when the data ends before that.
    """
    if len(data) < 0x202:
        raise FormatError(
            "boot sector is cut short", source=source, offset=0, expected="514 bytes", found=str(len(data))
        )
    # One layout serves all versions: what lies behind a header's end reads as zero and is not written back.
    peek = SETUP_HEADER.parse(data[START:FULL_END].ljust(SETUP_HEADER.size, b"\0"))
    end = peek.end if stop is None else stop
    if len(data) < end:
        raise FormatError(
            "setup header is cut short",
            source=source,
            offset=START,
            expected=f"bytes up to {end:#x}",
            found=f"{len(data):#x}",
        )
    known = min(peek.version_end, end)
    fixed = data[START:known].ljust(SETUP_HEADER.size, b"\0")
    return SETUP_HEADER.parse(fixed, beyond={"rest": data[known:end]})


def read(source: Source) -> SetupHeader:
    """The header of a kernel file; FormatError when the file ends inside of it."""
    return parse(source.read(0, MAX_END), source=source.name)


def build(header: SetupHeader) -> bytes:
    """The bytes from START to the header's end (``rest`` included): the inverse of ``parse``.

    Raises FormatError when a value does not fit its field.
    """
    known = header.version_end if header.rest else min(header.version_end, header.end)
    return SETUP_HEADER.build(header)[: known - START] + header.rest


def fields(header: SetupHeader, data: bytes) -> list[Field]:
    """The fields that this header has, with their places in ``data``, the head of the file."""
    shown = []
    for field in SETUP_HEADER.fields(data[START:FULL_END].ljust(SETUP_HEADER.size, b"\0"), base=START):
        if header.has(field.name):
            shown.append(_narrowed(header, field))
    if any(header.rest):
        at = header.version_end
        words = "in the header, but not of this version"
        shown.append(Field("rest", header.rest, at, len(header.rest), words, header.rest))
    return shown


def _narrowed(header: SetupHeader, field: Field) -> Field:
    """A field in the light of others: before 2.04 syssize has 16 bits; the extended loader type is elsewhere."""
    if field.name == "syssize" and header.protocol < (2, 4):
        size = header.system_size
        words = "of no use for a bzImage: 16 bits" if size is None else f"protected-mode part of {size} bytes"
        return Field("syssize", header.syssize & 0xFFFF, field.offset, 2, words, field.raw[:2])
    if field.name == "type_of_loader" and header.type_of_loader:
        return replace(field, meaning=header.loader)
    return field
