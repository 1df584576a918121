#!/usr/bin/env python3
"""Make the skeleton of a Xen hypervisor: what it says about itself stays in place, everything else is zero.

    make_xen_skeleton.py IMAGE SYMBOLS MAP OUTPUT

Where things are comes from the build, not from mbtool: MAP is the linker's (xen-syms.map or xen.efi.map), SYMBOLS
the image that objdump can disassemble at the map's addresses (xen-syms, or xen.efi itself). Kept are the headers,
the functions of common/version.c with 256 bytes around them, the strings that their instructions point at, the
format of the console line, the EFI loader's greeting, the build-id, the configuration. OUTPUT is gzip.
"""

import gzip
import re
import subprocess
import sys
import zlib
from pathlib import Path

FUNCTIONS = (
    "xen_compile_date xen_compile_time xen_compile_by xen_compile_domain xen_compile_host xen_compiler "
    "xen_major_version xen_minor_version xen_extra_version xen_changeset xen_banner xen_deny xen_build_info"
)


def file_offset(image: bytes, path: Path, address: int) -> int:
    """Where an address is in the file: by the one segment of Xen's ELF, or by objdump's list of sections."""
    if image.startswith(b"\x7fELF"):
        return address - 0xFFFF82D040200000 + int.from_bytes(image[0x34 + 4 : 0x34 + 8], "little")
    listed = subprocess.run(["objdump", "-h", str(path)], capture_output=True, text=True, check=True).stdout
    for size, start, offset in re.findall(r"^ *\d+ \S+ +(\w{8}) +(\w{16}) +\w{16} +(\w{8}) ", listed, re.MULTILINE):
        if int(start, 16) <= address < int(start, 16) + int(size, 16):
            return address - int(start, 16) + int(offset, 16)
    raise ValueError(f"{address:#x} is in no section")


def string_at(image: bytes, offset: int) -> tuple[int, int]:
    return offset, image.index(b"\0", offset) + 1


def kept(path: Path, image: bytes, symbols: Path, addresses: dict[str, int]) -> list[tuple[int, int]]:
    """(start, stop) of what stays."""
    parts = [(0, 0x400)]
    places = [addresses[name] for name in FUNCTIONS.split() if name in addresses]
    first, last = min(places), max(places) + 16
    parts.append((file_offset(image, path, first) - 256, file_offset(image, path, last) + 256))
    listing = subprocess.run(
        ["objdump", "-d", f"--start-address={first}", f"--stop-address={last}", str(symbols)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for target in re.findall(r"lea .*%rip.*# (?:0x)?([0-9a-f]{16})", listing):
        parts.append(string_at(image, file_offset(image, path, int(target, 16))))
    parts.append(string_at(image, image.index(b"Xen version %d.%d%s (")))
    greeting = image.index("Xen 4.".encode("utf-16-le"))
    parts.append((greeting, greeting + 128))
    note = image.find(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
    if note >= 0:
        parts.append((note, note + 36))
    else:
        record = image.index(b"RSDS")
        parts.append((record - 28, record + 25))
    for found in re.finditer(b"\x1f\x8b\x08", image):
        stream = zlib.decompressobj(31)
        try:
            text = stream.decompress(image[found.start() :])
        except zlib.error:
            continue
        if b"# Xen/x86" in text[:200]:
            parts.append((found.start(), len(image) - len(stream.unused_data)))
    return parts


def main(path: str, symbols: str, linker_map: str, output: str) -> None:
    image = Path(path).read_bytes()
    lines = Path(linker_map).read_text().splitlines()
    addresses = {
        name: int(address, 16) for address, _, name in (line.split()[:3] for line in lines if line.strip())
    }
    skeleton = bytearray(len(image))
    for start, stop in kept(Path(path), image, Path(symbols), addresses):
        skeleton[start:stop] = image[start:stop]
    Path(output).write_bytes(gzip.compress(bytes(skeleton), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
