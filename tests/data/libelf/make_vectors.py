"""Record what Xen's own libelf makes of many odd kernels; run from the project's root.

    python -m tests.data.libelf.make_vectors XEN_GIT_DIRECTORY

Compiles recorder.c with libelf of three Xen versions (the later ones changed it at 4.16, 4.18 and 4.19 only), feeds
it ELF files made at random (the seed is fixed) and writes vectors.json.xz: the files in hexadecimal and, for each
version, what libelf derived for PV and for PVH. Needs git and gcc.
"""

from __future__ import annotations

import json
import lzma
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import PT_NOTE, SHT_NOTE, Phdr, Shdr
from mbtool.formats.elf_notes import build_note

HERE = Path(__file__).parent
COUNT = 600
VERSIONS = {
    "4.14": ("xen-RELEASE-4.14.5", []),
    "4.16": ("xen-RELEASE-4.16.1", ["-DTOLD"]),
    "4.22": ("HEAD", ["-DTOLD", "-DRELOC"]),
}
SOURCES = ("libelf-tools.c", "libelf-loader.c", "libelf-dominfo.c", "libelf-private.h")
HEADERS = {
    "xen/libelf/libelf.h": "xen/include/xen/libelf.h",
    "xen/libelf/elfstructs.h": "xen/include/xen/elfstructs.h",
    "xen/elfnote.h": "xen/include/public/elfnote.h",
    "xen/features.h": "xen/include/public/features.h",
    "xen-tools/common-macros.h": "tools/include/xen-tools/common-macros.h",
    "xen-tools/libs.h": "tools/include/xen-tools/libs.h",
}

STRINGS = [b"linux", b"linux-2.6", b"generic", b"generic-2", b"xen-3.0", b"xen-3.0-x86_64p", b"yes", b"no"]
STRINGS += [b"bimodal", b"yes,bimodal", b"", b"GRUB", b"a-text-of-more-than-15-characters"]
FEATURES = [
    "writable_page_tables",
    "dom0",
    "supervisor_mode_kernel",
    "unheard_of",
    "pae_pgdir_above_4gb",
    "x" * 70,
    "",
]
ODD = [0, 1, 0x1000, 0x100000, 2**32 - 1, 2**63, 2**64 - 1, 0xFFFFFFFF80000000, 0xFFFFFFFF81000000]
PLAIN = [0, 0x100000, 0x100800, 0x200000]
HIGH = [0, 0x100000, 0x100800, 0xC0000000, 0xC0100000, 0xC0100800]
KEYS = ["LOADER", "GUEST_OS", "GUEST_VER", "XEN_VER", "PAE", "BSD_SYMTAB", "VIRT_BASE", "VIRT_ENTRY"]
KEYS += ["ELF_PADDR_OFFSET", "HYPERCALL_PAGE", "FEATURES", "ODD", "K" * 40]
VALUES = ["generic", "linux", "yes", "yes[extended-cr3]", "xen-3.0", "0xC0000000", "0xc0100000", "010", "12z", "0x"]
VALUES += ["0", "18446744073709551615", "0x102", "v" * 200, ""]


class Kernels:
    """Kernels made at random; most are nearly right, some are damaged."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.addresses = PLAIN

    def address(self, bits: int) -> int:
        return self.random.choice(self.addresses) & (1 << bits) - 1

    def features(self) -> bytes:
        pick = self.random
        names = ("!" * (pick.random() < 0.3) + pick.choice(FEATURES) for _ in range(pick.randrange(4)))
        return "|".join(names).encode()

    def note(self) -> bytes:
        pick = self.random
        type_ = pick.choice([*range(21), *range(1, 20), 0x1000001])
        if type_ in (0, 5, 6, 7, 8, 9, 11):
            desc = pick.choice(STRINGS) + b"\0" * (pick.random() < 0.9)
        elif type_ == 10:
            desc = self.features() + b"\0" * (pick.random() < 0.7)
        elif type_ == 19:
            words = [pick.choice([0x200000, 0, 0xFFFFFFFF, 0x1000]) for _ in range(pick.randrange(5))]
            desc = struct.pack(f"<{len(words)}I", *words) + b"x" * (pick.random() < 0.1)
        else:
            size = pick.choice([4, 8, 8, 8, 4, 1, 2, 0, 3, 12, 16])
            desc = (self.address(8 * size)).to_bytes(size, "little")
        owner = pick.choice(["Xen"] * 8 + ["GNU", "Xen2"])
        return bytes(12 * (pick.random() < 0.03)) + build_note(owner, type_, desc)

    def notes(self) -> bytes:
        pick = self.random
        good = [("Xen", 6, b"linux\0"), ("Xen", 8, b"generic\0"), ("Xen", 5, b"xen-3.0\0")]
        notes = [build_note(*note) for note in good if pick.random() < 0.8]
        notes += [self.note() for _ in range(pick.randrange(8))]
        pick.shuffle(notes)
        return b"".join(notes)

    def guest_string(self) -> bytes:
        pick = self.random
        pairs = ["GUEST_OS=linux", "XEN_VER=xen-3.0"]
        for _ in range(pick.randrange(8)):
            value = pick.choice([*VALUES, self.features().decode()])
            pairs.append(pick.choice(KEYS) + f"={value}" * (pick.random() < 0.9))
        pick.shuffle(pairs)
        return ",".join(pairs).encode() + b"\0" * (pick.random() < 0.95)

    def segments(self, bits: int) -> list[tuple[Phdr, bytes]]:
        pick = self.random
        segments = [(Phdr(p_flags=7, p_paddr=0x100000, p_memsz=0x400000, p_align=0x1000), b"x")]
        segments *= pick.random() < 0.6
        for _ in range(pick.randrange(4)):
            value = Phdr(
                p_type=pick.choice([1, 1, 1, 6]),
                p_flags=pick.choice([0, 5, 7, 4]),
                p_paddr=self.address(bits),
                p_memsz=pick.choice([0, 1, 0x1000, 0x400000]),
                p_align=pick.choice([0, 4, 0x1000, 0x200000]),
            )
            segments.append((value, bytes(pick.randrange(40))))
        if pick.random() < 0.6:
            segments += [(Phdr(p_type=PT_NOTE, p_align=4), self.notes()) for _ in range(pick.choice([1, 1, 1, 2]))]
        pick.shuffle(segments)
        return segments

    def sections(self) -> list[tuple[str, Shdr, bytes]]:
        pick = self.random
        choices = [
            (".note", Shdr(sh_type=SHT_NOTE), self.notes()),
            ("__xen_guest", Shdr(sh_type=1), self.guest_string()),
            (".symtab", Shdr(sh_type=2, sh_link=pick.choice([0, 1, 2, 3, 4, 99])), bytes(pick.randrange(100))),
            (".strtab", Shdr(sh_type=pick.choice([3, 3, 1])), bytes(pick.randrange(100))),
        ]
        chosen = [section for section in choices if pick.random() < 0.5]
        pick.shuffle(chosen)
        return chosen

    def kernel(self) -> bytes:
        pick = self.random
        self.addresses = pick.choice([ODD, PLAIN, HIGH])
        bits = pick.choice([32, 64, 64])
        machine = pick.choice([None, None, None, 40, 8])
        sections = self.sections() if pick.random() < 0.5 else []
        data = build_elf(self.segments(bits), sections, elf_class=bits, entry=self.address(bits), machine=machine)
        damaged = bytearray(data)
        what = pick.random()
        if what < 0.2:
            for _ in range(pick.randrange(1, 4)):
                damaged[pick.randrange(6, len(damaged))] = pick.choice([0, 1, 0xFF, pick.randrange(256)])
        elif what < 0.25:
            damaged = damaged[: pick.randrange(min(64, len(damaged)), len(damaged) + 1)]
        return bytes(damaged)


def build_recorder(repository: str, tag: str, flags: list[str], work: Path) -> Path:
    """recorder.c with libelf of one Xen version."""
    wanted = {name: f"xen/common/libelf/{name}" for name in SOURCES}
    wanted |= {f"include/{name}": path for name, path in HEADERS.items()}
    for name, path in wanted.items():
        show = subprocess.run(["git", "-C", repository, "show", f"{tag}:{path}"], capture_output=True)
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        if show.returncode == 0:  # the two tools headers are one or the other
            (work / name).write_bytes(show.stdout)
    program = work / "recorder"
    sources = [str(work / name) for name in SOURCES if name.endswith(".c")]
    flags = ["-O1", "-w", "-DFUZZ_NO_LIBXC", f"-I{work}/include", f"-I{work}", *flags]
    subprocess.run(["gcc", *flags, str(HERE / "recorder.c"), *sources, "-o", str(program)], check=True)
    return program


def parse(line: str) -> dict[str, int | str]:
    """A recorder's line; ``{}`` for a file that elf_init refuses."""
    pairs = (part.split("=") for part in line.split() if part != "init")
    return {
        name: bytes.fromhex(value[1:]).decode("latin-1") if value.startswith("x") else int(value)
        for name, value in pairs
    }


def main() -> None:
    kernels = Kernels(20240)
    images = [kernels.kernel() for _ in range(COUNT)]
    stream = b"".join(struct.pack("<I", len(image)) + image for image in images)
    answers = {}
    for version, (tag, flags) in VERSIONS.items():
        with tempfile.TemporaryDirectory() as work:
            recorder = build_recorder(sys.argv[1], tag, flags, Path(work))
            run = subprocess.run([recorder], input=stream, capture_output=True, check=True)
        lines = [parse(line) for line in run.stdout.decode().splitlines()]
        answers[version] = [lines[at : at + 2] for at in range(0, len(lines), 2)]
    document = {"images": [image.hex() for image in images], "answers": answers}
    text = json.dumps(document, separators=(",", ":"))
    (HERE / "vectors.json.xz").write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
