"""Small compressed streams as literals, and what tests of streams share."""

from __future__ import annotations

from mbtool.errors import UnknownFormatError
from mbtool.formats import compression
from mbtool.formats.context import Context
from mbtool.model import Node
from mbtool.source import Source

PLAIN = b"hello\n"
HELLO = {
    name: bytes.fromhex(text)
    for name, text in {
        # gzip hello
        "gzip": "1f8b0808 00ca9a3b 0003 68656c6c6f00 cb48cdc9c9e70200 20303a36 06000000",
        # xz --x86 --lzma2=dict=64KiB --check=crc32 hello
        "xz": "fd377a585a00 0001 6922de36 0201040021010800 d2b974cb 01000568656c6c6f0a000000 20303a36"
        "00011a06 c5eac879 9042990d 01000000 0001 595a",
        # xz --format=lzma hello
        "lzma": "5d 00008000 ffffffffffffffff 00341949ee8ddd3d3adfffffdd120000",
        # bzip2 hello
        "bzip2": "425a6839 314159265359 c1c080e2 000001410000100244a00030cd00c34629 97177245385090 c1c080e2",
        # lzop hello
        "lzo": "894c5a4f000d0a1a0a 1040 20a0 0940 01 05 03000001 000081a4 3b9aca00 00000000 05 68656c6c6f 521d0641"
        "00000006 00000006 084b021f 68656c6c6f0a 00000000",
        # lz4 -l hello
        "lz4-legacy": "02214c18 07000000 6068656c6c6f0a",
        # lz4 --content-size hello
        "lz4-frame": "04224d18 6c 40 0600000000000000 89 06000080 68656c6c6f0a 00000000 f95b6b94",
        # zstd hello
        "zstd": "28b52ffd 24 06 310000 68656c6c6f0a 5388bd91",
    }.items()
}


def opaque(source: Source, context: Context) -> Node:
    """A context's way into the content that knows no format."""
    raise UnknownFormatError(source.name, (("anything", "not asked"),))


def nested(source: Source, context: Context) -> Node:
    """A context's way into the content that knows compressed streams only."""
    return opaque(source, context) if compression.reject(source) else compression.inspect(source, context)
