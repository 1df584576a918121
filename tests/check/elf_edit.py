"""ELF files changed one field at a time, at the offsets in the ELF specification, not as mbtool declares them."""

from __future__ import annotations

import struct

PT_NOTE = 4
EHDR = {
    # name: (offset, size) in ELF64, in ELF32
    "ei_mag": ((0, 4), (0, 4)),
    "ei_class": ((4, 1), (4, 1)),
    "ei_data": ((5, 1), (5, 1)),
    "ei_version": ((6, 1), (6, 1)),
    "e_type": ((16, 2), (16, 2)),
    "e_machine": ((18, 2), (18, 2)),
    "e_version": ((20, 4), (20, 4)),
    "e_entry": ((24, 8), (24, 4)),
    "e_phoff": ((32, 8), (28, 4)),
    "e_shoff": ((40, 8), (32, 4)),
    "e_flags": ((48, 4), (36, 4)),
    "e_ehsize": ((52, 2), (40, 2)),
    "e_phentsize": ((54, 2), (42, 2)),
    "e_phnum": ((56, 2), (44, 2)),
    "e_shentsize": ((58, 2), (46, 2)),
    "e_shnum": ((60, 2), (48, 2)),
    "e_shstrndx": ((62, 2), (50, 2)),
}
PHDR = {
    "p_type": ((0, 4), (0, 4)),
    "p_flags": ((4, 4), (24, 4)),
    "p_offset": ((8, 8), (4, 4)),
    "p_vaddr": ((16, 8), (8, 4)),
    "p_paddr": ((24, 8), (12, 4)),
    "p_filesz": ((32, 8), (16, 4)),
    "p_memsz": ((40, 8), (20, 4)),
}


def put(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes at an offset replaced."""
    return data[:at] + new + data[at + len(new) :]


def ehdr(data: bytes, name: str, value: int) -> bytes:
    """A field of the ELF header replaced."""
    at, size = EHDR[name][data[4] == 1]
    return put(data, at, value.to_bytes(size, "little"))


def phdr(data: bytes, index: int, name: str, value: int) -> bytes:
    """A field of a program header replaced."""
    at, size = PHDR[name][data[4] == 1]
    return put(data, _phdrs(data)[index] + at, value.to_bytes(size, "little"))


def note(data: bytes, kind: int, value: int | bytes) -> bytes:
    """What a Xen note says replaced, in the room that it has."""
    at, size = _note(data, kind)
    new = value.to_bytes(size, "little") if isinstance(value, int) else value.ljust(size, b"\0")
    assert len(new) == size
    return put(data, at + 16, new)


def without_note(data: bytes, kind: int) -> bytes:
    """A Xen note given a number that nobody knows."""
    return put(data, _note(data, kind)[0] + 8, struct.pack("<I", 0x7777))


def note_descsz(data: bytes, kind: int, value: int) -> bytes:
    """The size of a Xen note replaced, without moving what follows."""
    return put(data, _note(data, kind)[0] + 4, struct.pack("<I", value))


def note_owner(data: bytes, owner: bytes) -> bytes:
    """All Xen notes given to another owner, whose name takes four bytes."""
    for at, _, _ in _notes(data):
        data = put(data, at + 12, owner)
    return data


def _phdrs(data: bytes) -> list[int]:
    if data[4] == 1:
        (start,), (size, count) = struct.unpack_from("<I", data, 28), struct.unpack_from("<HH", data, 42)
    else:
        (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    return [start + size * index for index in range(count)]


def _notes(data: bytes) -> list[tuple[int, int, int]]:
    """(offset, n_type, n_descsz) of each note of the first PT_NOTE segment."""
    form = "<4xI8xI" if data[4] == 1 else "<8xQ16xQ"  # p_offset, p_filesz
    header = next(at for at in _phdrs(data) if struct.unpack_from("<I", data, at)[0] == PT_NOTE)
    at, size = struct.unpack_from(form, data, header)
    end, found = at + size, []
    while at < end:
        namesz, descsz, kind = struct.unpack_from("<III", data, at)
        found.append((at, kind, descsz))
        at += 12 + (namesz + 3 & ~3) + (descsz + 3 & ~3)
    return found


def _note(data: bytes, kind: int) -> tuple[int, int]:
    return next((at, size) for at, each, size in _notes(data) if each == kind)
