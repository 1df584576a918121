"""Boot Loader Specification, type 1 entries: ``loader/entries/*.conf``, a key and a value on each line.

Source: UAPI Group, Boot Loader Specification, "Type #1 Boot Loader Specification Entries".
"""

from __future__ import annotations

from mbtool.record import record

KEYS = ("title", "linux", "initrd", "options", "efi", "uki", "version", "machine-id", "sort-key", "architecture")


@record
class BlsEntry:
    """``initrd`` and ``options`` may come several times: options are joined by blanks.

    Paths have slashes, also where the file has EFI's backslashes, which systemd-boot takes (``convert_efi_path``).
    """

    title: str = ""
    version: str = ""
    linux: str = ""
    efi: str = ""
    uki: str = ""
    initrd: tuple[str, ...] = ()
    options: str = ""


def parse(text: str) -> BlsEntry:
    """The entry. Lines that begin with ``#``, and keys that nobody knows, are passed over."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key and not key.startswith("#") and value.strip():
            values.setdefault(key, []).append(value.strip())

    def last(key: str) -> str:
        return values.get(key, [""])[-1]

    def path(key: str) -> str:
        return last(key).replace("\\", "/")

    initrds = tuple(word.replace("\\", "/") for value in values.get("initrd", []) for word in value.split())
    options = " ".join(values.get("options", []))
    return BlsEntry(last("title"), last("version"), path("linux"), path("efi"), path("uki"), initrds, options)
