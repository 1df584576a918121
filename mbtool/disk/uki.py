"""A unified kernel image: Linux, its initrd and its command line as sections of systemd's EFI stub.

Sections and what they hold: UAPI.5 "Unified Kernel Image"; systemd-stub(7). ``.linux`` comes last, so that nothing
follows it in memory, as ``ukify`` has it.
"""

from __future__ import annotations

from mbtool.disk.content import Content, size_of
from mbtool.disk.kernel import BootFile
from mbtool.disk.pe_append import append_sections
from mbtool.errors import InputError, UnsupportedError
from mbtool.formats import pe, pe_headers
from mbtool.formats.bzimage import MAX_VERSION_STRING, VERSION_AREA
from mbtool.plan.linux_kernel import HEAD_READ, is_bzimage, linux_kernel
from mbtool.record import record
from mbtool.source import MIB, BytesSource, Source

MAX_STUB = 16 * MIB
X86_64 = 0x8664
EFI_APPLICATION = 10


@record
class Uki:
    """The image's content, and where in it (bytes) the sections begin, by name."""

    content: Content
    offsets: dict[str, int]


def build(
    stub: bytes, stub_name: str, kernel: BootFile, initrd: BootFile | None, cmdline: str, os_release: str
) -> Uki:
    """A UKI. ``os_release``: text of an os-release file, "" for one that only names the kernel.

    Raises InputError when ``stub`` is no EFI program for x86-64 without a kernel of its own, UnsupportedError when
    the kernel has no EFI stub or the image cannot be put together, FormatError for a damaged PE image.
    """
    _check_stub(stub, stub_name)
    if pe.reject(kernel.source):
        raise UnsupportedError(
            "the kernel is no EFI program: it was built without CONFIG_EFI_STUB", source=kernel.name
        )
    release = kernel_release(kernel.source)
    sections: list[tuple[str, Content]] = [
        (".osrel", (os_release or _os_release(release)).encode()),
        (".cmdline", cmdline.encode()),
        (".uname", release.encode()),
    ]
    sections += [(".initrd", initrd.content)] if initrd else []
    sections.append((".linux", kernel.content))
    return Uki(*append_sections(stub, [item for item in sections if size_of(item[1])], stub_name))


def kernel_release(kernel: Source) -> str:
    """``uname -r`` of a bzImage: the first word of its version string, "" when it has none."""
    header = linux_kernel(kernel.name, kernel.read(0, HEAD_READ), kernel.size).header
    if not header.has("kernel_version") or not header.kernel_version:
        return ""
    text = kernel.read(VERSION_AREA + header.kernel_version, MAX_VERSION_STRING).split(b"\0")[0]
    words = text.decode("ascii", "ignore").split()
    return words[0] if words else ""


def _os_release(release: str) -> str:
    """The os-release of nobody's system: systemd-boot lists no image without one."""
    version = f"VERSION_ID={release}\n" if release else ""
    return f'ID=linux\nNAME=Linux\nPRETTY_NAME="{f"Linux {release}".strip()}"\n{version}'


def _check_stub(stub: bytes, name: str) -> None:
    source = BytesSource(stub, name)
    if problem := pe.reject(source):
        raise InputError(f"is no EFI program: {problem}", source=name, expected="systemd's linuxx64.efi.stub")
    headers, _ = pe_headers.parse(source)
    subsystem = headers.optional.Subsystem if headers.optional else None
    if headers.coff.Machine != X86_64 or subsystem != EFI_APPLICATION:
        raise InputError("is no EFI application for x86-64", source=name, expected="systemd's linuxx64.efi.stub")
    if is_bzimage(stub[:HEAD_READ]) or any(s.Name.rstrip(b"\0") == b".linux" for s in headers.sections):
        raise InputError("has or is a kernel already", source=name, expected="systemd's stub alone")
