"""What lies near boot images and is none that mbtool reads, by its signature: a name makes "unknown format" clear.

Sources: U-Boot include/image.h; Devicetree Specification 0.4, section 5.2; Android system/tools/mkbootimg,
bootimg.h; Linux Documentation/arch (arm64/booting.rst, riscv/boot-image-header.rst); UEFI PI 1.8, volume 1
(TE image) and volume 3 (firmware volume); cpio(5), ar(5), tar(5), a.out(5); APPNOTE.TXT (zip); file(1)'s magic.
"""

from __future__ import annotations

from mbtool.formats.disk import FILE_SYSTEMS
from mbtool.source import Source

FILES = (
    (0, b"\x27\x05\x19\x56", "a U-Boot image (uImage)"),
    (0, b"\xd0\x0d\xfe\xed", "a flattened device tree, or a FIT image"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"VNDRBOOT", "an Android vendor boot image"),
    (0x38, b"ARM\x64", "a Linux kernel for ARM64"),
    (0x38, b"RSC\x05", "a Linux kernel for RISC-V"),
    (0x24, b"\x18\x28\x6f\x01", "a Linux kernel for 32-bit ARM (zImage)"),
    (0, b"VZ", "a TE image of UEFI firmware"),
    (0x28, b"_FVH", "a UEFI firmware volume"),
    (0, b"070707", "a cpio archive of the old portable format (make it with -H newc)"),
    (0, b"\xc7\x71", "a cpio archive of the old binary format (make it with -H newc)"),
    (0, b"\x71\xc7", "a cpio archive of the old binary format (make it with -H newc)"),
    (0x101, b"ustar", "a tar archive"),
    (0, b"!<arch>\n", "an ar archive (a Debian package, a library)"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (0, b"\xce\xfa\xed\xfe", "a Mach-O program"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O program for several machines, or a Java class"),
    (0, b"\x07\x01\0\0", "an a.out program (OMAGIC)"),
    (0, b"\x08\x01\0\0", "an a.out program (NMAGIC)"),
    (0, b"\x0b\x01\0\0", "an a.out program (ZMAGIC)"),
    (0, b"\xcc\0\0\0", "an a.out program (QMAGIC)"),
    (0, b"#!", "a script"),
    (0, b"MZ", "a DOS program, or a damaged PE image"),
)
"""Where, what, and in words."""


def name(source: Source) -> str:
    """What the bytes seem to be, with an article; "" when nobody knows."""
    volumes = ((at, signature, f"a volume or file system: {words}") for at, signature, words in FILE_SYSTEMS)
    return next(
        (words for at, signature, words in (*FILES, *volumes) if source.read(at, len(signature)) == signature), ""
    )
