"""Build a small ELF file: the headers follow from what it is to contain.

    ┌──────┬─────────────────┬──────────────────┬──────────────────┬───────────┬─────────────────┐
    │ Ehdr │ program headers │ segment contents │ section contents │ .shstrtab │ section headers │
    └──────┴─────────────────┴──────────────────┴──────────────────┴───────────┴─────────────────┘

Contents start on 16 bytes. Source: System V gABI chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mbtool.formats.elf_headers import (
    EHDR,
    ELFCLASS32,
    ELFCLASS64,
    EM_386,
    EM_X86_64,
    PHDR,
    SHDR,
    SHT_STRTAB,
    Ehdr,
    Phdr,
    Shdr,
)

ALIGN = 16


def build_elf(
    segments: Sequence[tuple[Phdr, bytes]] = (),
    sections: Sequence[tuple[str, Shdr, bytes]] = (),
    *,
    elf_class: int = 64,
    machine: int | None = None,
    entry: int = 0,
    header: Ehdr | None = None,
) -> bytes:
    """An ELF file with these segments and sections, an empty section 0 and a name table being added to the latter.

    ``p_offset`` and ``p_filesz``, ``sh_name``, ``sh_offset`` and ``sh_size`` are filled in, ``p_memsz`` is raised
    to the content's size. ``machine`` is by default x86 of that class; ``header`` gives further fields.
    """
    ei_class = ELFCLASS64 if elf_class == 64 else ELFCLASS32
    ehdr, phdr, shdr = EHDR[ei_class], PHDR[ei_class], SHDR[ei_class]
    body = bytearray(ehdr.size + phdr.size * len(segments))
    phdrs = []
    for segment, content in segments:
        memsz = max(segment.p_memsz, len(content))
        phdrs.append(replace(segment, p_offset=_append(body, content), p_filesz=len(content), p_memsz=memsz))
    shdrs = []
    names = bytearray(1)
    for name, section, content in [*sections, (".shstrtab", Shdr(sh_type=SHT_STRTAB), b"")] if sections else ():
        at = len(names)
        names += name.encode() + b"\0"
        stored = content if name != ".shstrtab" else bytes(names)
        shdrs.append(replace(section, sh_name=at, sh_offset=_append(body, stored), sh_size=len(stored)))
    shoff = _append(body, b"".join(shdr.build(section) for section in [Shdr(), *shdrs])) if shdrs else 0
    file_header = replace(
        header or Ehdr(),
        ei_class=ei_class,
        e_machine=machine if machine is not None else EM_X86_64 if elf_class == 64 else EM_386,
        e_entry=entry,
        e_phoff=ehdr.size if phdrs else 0,
        e_shoff=shoff,
        e_ehsize=ehdr.size,
        e_phentsize=phdr.size,
        e_phnum=len(phdrs),
        e_shentsize=shdr.size,
        e_shnum=len(shdrs) + 1 if shdrs else 0,
        e_shstrndx=len(shdrs),
    )
    head = ehdr.build(file_header) + b"".join(phdr.build(value) for value in phdrs)
    body[: len(head)] = head
    return bytes(body)


def _append(body: bytearray, content: bytes) -> int:
    """Put content behind the rest, on ALIGN bytes; returns where."""
    body += bytes(-len(body) % ALIGN)
    at = len(body)
    body += content
    return at
