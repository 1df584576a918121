"""The structures of PE headers on the wire: DOS, COFF and optional header, data directory, section header.

Source: Microsoft "PE Format", sections "MS-DOS Stub", "COFF File Header", "Optional Header" and "Section Table".
"""

from __future__ import annotations

from typing import Any

from mbtool.formats import pe_names
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Array, Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct
from mbtool.record import record


@record
class DosHeader:
    """``IMAGE_DOS_HEADER``, 64 bytes. In a bzImage all but the first and last field is real-mode code."""

    e_magic: bytes
    e_cblp: int
    e_cp: int
    e_crlc: int
    e_cparhdr: int
    e_minalloc: int
    e_maxalloc: int
    e_ss: int
    e_sp: int
    e_csum: int
    e_ip: int
    e_cs: int
    e_lfarlc: int
    e_ovno: int
    e_res: tuple[int, ...]
    e_oemid: int
    e_oeminfo: int
    e_res2: tuple[int, ...]
    e_lfanew: int
    """File offset (bytes) of the PE signature."""


DOS_HEADER = Layout(
    DosHeader,
    Struct(
        "e_magic" / Bytes(2),
        "e_cblp" / Int16ul,
        "e_cp" / Int16ul,
        "e_crlc" / Int16ul,
        "e_cparhdr" / Int16ul,
        "e_minalloc" / Int16ul,
        "e_maxalloc" / Int16ul,
        "e_ss" / Int16ul,
        "e_sp" / Int16ul,
        "e_csum" / Int16ul,
        "e_ip" / Int16ul,
        "e_cs" / Int16ul,
        "e_lfarlc" / Int16ul,
        "e_ovno" / Int16ul,
        "e_res" / Array(4, Int16ul),
        "e_oemid" / Int16ul,
        "e_oeminfo" / Int16ul,
        "e_res2" / Array(10, Int16ul),
        "e_lfanew" / Int32ul,
    ),
    hex=("e_csum", "e_ip", "e_cs", "e_ss", "e_sp", "e_lfarlc", "e_res", "e_res2", "e_lfanew"),
)


@record
class CoffHeader:
    """``IMAGE_FILE_HEADER``, 20 bytes, after the PE signature."""

    Machine: int
    NumberOfSections: int
    TimeDateStamp: int
    """Seconds since 1970, or any number in a reproducible build."""
    PointerToSymbolTable: int
    NumberOfSymbols: int
    SizeOfOptionalHeader: int
    Characteristics: int


COFF_HEADER = Layout(
    CoffHeader,
    Struct(
        "Machine" / Int16ul,
        "NumberOfSections" / Int16ul,
        "TimeDateStamp" / Int32ul,
        "PointerToSymbolTable" / Int32ul,
        "NumberOfSymbols" / Int32ul,
        "SizeOfOptionalHeader" / Int16ul,
        "Characteristics" / Int16ul,
    ),
    hex=("Machine", "PointerToSymbolTable", "Characteristics"),
    telling=("Machine",),
    meanings={
        "Machine": choice_names(pe_names.MACHINE),
        "Characteristics": flag_names(pe_names.CHARACTERISTICS),
    },
)


@record
class OptionalHeader:
    """``IMAGE_OPTIONAL_HEADER`` up to its data directories: 96 bytes in PE32, 112 in PE32+."""

    Magic: int
    """Which of the two it is."""
    MajorLinkerVersion: int
    MinorLinkerVersion: int
    SizeOfCode: int
    SizeOfInitializedData: int
    SizeOfUninitializedData: int
    AddressOfEntryPoint: int
    BaseOfCode: int
    ImageBase: int
    SectionAlignment: int
    FileAlignment: int
    MajorOperatingSystemVersion: int
    MinorOperatingSystemVersion: int
    MajorImageVersion: int
    MinorImageVersion: int
    MajorSubsystemVersion: int
    MinorSubsystemVersion: int
    Win32VersionValue: int
    SizeOfImage: int
    SizeOfHeaders: int
    CheckSum: int
    Subsystem: int
    DllCharacteristics: int
    SizeOfStackReserve: int
    SizeOfStackCommit: int
    SizeOfHeapReserve: int
    SizeOfHeapCommit: int
    LoaderFlags: int
    NumberOfRvaAndSizes: int
    BaseOfData: int = 0
    """Stored in PE32 only, behind BaseOfCode."""


def _optional_struct(word: Any, *, base_of_data: bool) -> Struct:
    """Both optional headers: ``word`` is the type of ImageBase and of the stack and heap sizes."""
    return Struct(
        "Magic" / Int16ul,
        "MajorLinkerVersion" / Int8ul,
        "MinorLinkerVersion" / Int8ul,
        "SizeOfCode" / Int32ul,
        "SizeOfInitializedData" / Int32ul,
        "SizeOfUninitializedData" / Int32ul,
        "AddressOfEntryPoint" / Int32ul,
        "BaseOfCode" / Int32ul,
        *(("BaseOfData" / Int32ul,) if base_of_data else ()),
        "ImageBase" / word,
        "SectionAlignment" / Int32ul,
        "FileAlignment" / Int32ul,
        "MajorOperatingSystemVersion" / Int16ul,
        "MinorOperatingSystemVersion" / Int16ul,
        "MajorImageVersion" / Int16ul,
        "MinorImageVersion" / Int16ul,
        "MajorSubsystemVersion" / Int16ul,
        "MinorSubsystemVersion" / Int16ul,
        "Win32VersionValue" / Int32ul,
        "SizeOfImage" / Int32ul,
        "SizeOfHeaders" / Int32ul,
        "CheckSum" / Int32ul,
        "Subsystem" / Int16ul,
        "DllCharacteristics" / Int16ul,
        "SizeOfStackReserve" / word,
        "SizeOfStackCommit" / word,
        "SizeOfHeapReserve" / word,
        "SizeOfHeapCommit" / word,
        "LoaderFlags" / Int32ul,
        "NumberOfRvaAndSizes" / Int32ul,
    )


_OPTIONAL_HEX = (
    "Magic",
    "AddressOfEntryPoint",
    "BaseOfCode",
    "ImageBase",
    "SectionAlignment",
    "FileAlignment",
    "SizeOfImage",
    "CheckSum",
    "DllCharacteristics",
    "LoaderFlags",
)
_OPTIONAL_TELLING = ("Subsystem", "AddressOfEntryPoint", "ImageBase", "SizeOfImage")
_OPTIONAL_MEANINGS = {
    "Magic": choice_names(pe_names.OPTIONAL_MAGIC),
    "Subsystem": choice_names(pe_names.SUBSYSTEM),
    "DllCharacteristics": flag_names(pe_names.DLL_CHARACTERISTICS),
}

OPTIONAL_HEADER_64 = Layout(
    OptionalHeader,
    _optional_struct(Int64ul, base_of_data=False),
    hex=_OPTIONAL_HEX,
    telling=_OPTIONAL_TELLING,
    meanings=_OPTIONAL_MEANINGS,
    beyond=("BaseOfData",),
)
OPTIONAL_HEADER_32 = Layout(
    OptionalHeader,
    _optional_struct(Int32ul, base_of_data=True),
    hex=(*_OPTIONAL_HEX, "BaseOfData"),
    telling=_OPTIONAL_TELLING,
    meanings=_OPTIONAL_MEANINGS,
)


@record
class DataDirectory:
    """``IMAGE_DATA_DIRECTORY``, 8 bytes: an RVA (a file offset for the certificate table) and a size in bytes."""

    VirtualAddress: int = 0
    Size: int = 0


DATA_DIRECTORY = Layout(
    DataDirectory, Struct("VirtualAddress" / Int32ul, "Size" / Int32ul), hex=("VirtualAddress",)
)


@record
class SectionHeader:
    """``IMAGE_SECTION_HEADER``, 40 bytes."""

    Name: bytes
    VirtualSize: int
    VirtualAddress: int
    """RVA, bytes from ImageBase."""
    SizeOfRawData: int
    PointerToRawData: int
    """File offset."""
    PointerToRelocations: int
    PointerToLinenumbers: int
    NumberOfRelocations: int
    NumberOfLinenumbers: int
    Characteristics: int


SECTION_HEADER = Layout(
    SectionHeader,
    Struct(
        "Name" / Bytes(8),
        "VirtualSize" / Int32ul,
        "VirtualAddress" / Int32ul,
        "SizeOfRawData" / Int32ul,
        "PointerToRawData" / Int32ul,
        "PointerToRelocations" / Int32ul,
        "PointerToLinenumbers" / Int32ul,
        "NumberOfRelocations" / Int16ul,
        "NumberOfLinenumbers" / Int16ul,
        "Characteristics" / Int32ul,
    ),
    hex=(
        "VirtualAddress",
        "PointerToRawData",
        "PointerToRelocations",
        "PointerToLinenumbers",
        "Characteristics",
    ),
    meanings={"Characteristics": pe_names.section_flags},
)
