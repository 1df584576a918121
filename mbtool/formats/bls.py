"""Boot Loader Specification, type 1 entries: ``loader/entries/*.conf``, a key and a value on each line.

Source: UAPI Group, Boot Loader Specification, "Type #1 Boot Loader Specification Entries"; systemd,
src/boot/boot.c, boot_entry_add_type1; Fedora's GRUB, grub-core/commands/blscfg.c, create_entry.
"""

from __future__ import annotations

from mbtool.record import record

LOADERS = ("linux", "uki", "uki-url", "efi")
"""Keys that name what is started."""
KEYS = (
    *LOADERS,
    *("title", "version", "machine-id", "sort-key", "architecture", "profile", "extra"),
    *("initrd", "options", "devicetree", "devicetree-overlay"),
    *("id", "savedefault", "grub_arg", "grub_class", "grub_hotkey", "grub_users"),
)
"""The specification's keys, and below those what Fedora writes for GRUB."""
MAX_UNKNOWN = 64
"""Lines without a key that are told of at most."""


@record
class BlsEntry:
    """``initrd`` and ``options`` may come several times: options are joined by blanks.

    Paths have slashes, also where the file has EFI's backslashes, which systemd-boot takes (``convert_efi_path``).
    ``loaders``: which of LOADERS are there; ``unknown``: numbers (from 1) of lines that begin with no key of KEYS,
    and what they begin with, up to the first blank.
    """

    title: str = ""
    version: str = ""
    linux: str = ""
    efi: str = ""
    uki: str = ""
    initrd: tuple[str, ...] = ()
    options: str = ""
    architecture: str = ""
    loaders: tuple[str, ...] = ()
    unknown: tuple[tuple[int, str], ...] = ()


def parse(text: str) -> BlsEntry:
    """The entry. Lines that begin with ``#``, and those with a key alone, are passed over."""
    values: dict[str, list[str]] = {}
    unknown: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if not key or key.startswith("#"):
            continue
        if key not in KEYS and len(unknown) < MAX_UNKNOWN:
            unknown.append((number, key))
        if value.strip():
            values.setdefault(key, []).append(value.strip())

    def last(key: str) -> str:
        return values.get(key, [""])[-1]

    def path(key: str) -> str:
        return last(key).replace("\\", "/")

    initrds = tuple(word.replace("\\", "/") for value in values.get("initrd", []) for word in value.split())
    options = " ".join(values.get("options", []))
    named = (last("title"), last("version"), path("linux"), path("efi"), path("uki"))
    loaders = tuple(key for key in LOADERS if key in values)
    return BlsEntry(*named, initrds, options, last("architecture"), loaders, tuple(unknown))
