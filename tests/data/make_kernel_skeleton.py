#!/usr/bin/env python3
"""Make the skeleton of a kernel: its ELF headers, tables and notes in place, everything else zero.

    make_kernel_skeleton.py KERNEL OUTPUT

Distribution kernels vanish from their mirrors; what a loader derives from one survives in a few kilobytes. OUTPUT
is an xz stream of the whole skeleton with its size appended as Linux does to a payload, so that Xen (and mbtool)
take it as a kernel. Needs the standard library only; KERNEL is an ELF64 file or a bzImage with an xz payload.
"""

import hashlib
import lzma
import struct
import sys
from pathlib import Path

PT_NOTE = 4


def payload(image: bytes) -> bytes:
    """The ELF file inside a bzImage, or the image itself."""
    if image.startswith(b"\x7fELF"):
        return image
    setup_sects = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    return lzma.LZMADecompressor().decompress(image[start : start + length])


def kept(elf: bytes) -> list[tuple[int, int]]:
    """(offset, size) of what stays: file header, both tables, section names, note segments."""
    e_phoff, e_shoff = struct.unpack_from("<QQ", elf, 32)
    e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx = struct.unpack_from("<5H", elf, 54)
    parts = [(0, 64), (e_phoff, e_phentsize * e_phnum), (e_shoff, e_shentsize * e_shnum)]
    parts.append(struct.unpack_from("<QQ", elf, e_shoff + e_shstrndx * e_shentsize + 24))
    for i in range(e_phnum):
        p_type, _, p_offset, _, _, p_filesz = struct.unpack_from("<IIQQQQ", elf, e_phoff + i * e_phentsize)
        if p_type == PT_NOTE:
            parts.append((p_offset, p_filesz))
    return parts


def main() -> None:
    image = Path(sys.argv[1]).read_bytes()
    elf = payload(image)
    skeleton = bytearray(len(elf))
    for offset, size in kept(elf):
        skeleton[offset : offset + size] = elf[offset : offset + size]
    packed = lzma.compress(bytes(skeleton), check=lzma.CHECK_CRC32, preset=9)
    Path(sys.argv[2]).write_bytes(packed + struct.pack("<I", len(skeleton)))
    print(f"{sys.argv[1]}: SHA-256 {hashlib.sha256(image).hexdigest()}, ELF of {len(elf)} bytes")
    print(f"{sys.argv[2]}: {len(packed) + 4} bytes, ELF SHA-256 {hashlib.sha256(skeleton).hexdigest()}")


if __name__ == "__main__":
    main()
