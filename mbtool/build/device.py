"""Writing to a device in place: what a raw image file is spared, checked first, and nothing asked.

A device cannot be replaced whole: what was on it is gone from the first byte on. So all that can be known is known
before: that it is a device, nothing of it is in use, its sectors are of 512 bytes, and the disk fits.
Linux: include/uapi/linux/fs.h for the ioctls; proc(5) for mountinfo and swaps.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mbtool.disk.copying import write_at
from mbtool.errors import InputError, UnsupportedError

BLKSSZGET, BLKZEROOUT, BLKRRPART = 0x1268, 0x127F, 0x125F
SECTOR = 512
ZEROS = bytes(1 << 20)
MOUNTS, SWAPS, SYSFS = Path("/proc/self/mountinfo"), Path("/proc/swaps"), Path("/sys/dev/block")


def is_device(path: Path) -> bool:
    """Whether this is a block or character device (links followed)."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


@contextmanager
def open_device(path: Path, least: int) -> Iterator[tuple[int, int]]:
    """A descriptor of a device, and its size in bytes; the first ``least`` bytes read as zeros.

    When the block is left, all is on the device. Raises InputError or UnsupportedError, and then nothing was
    written, for a device that is in use, read-only, too small or of other sectors; OSError as ``write`` does.
    """
    if not is_device(path):
        raise InputError("is no device", source=str(path), remedy="leave --write-device out to write a file")
    if user := _user(path):
        raise InputError(f"is in use: {user}", source=str(path), remedy="unmount it first")
    try:
        fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)  # a device held by anyone refuses this
    except OSError as error:
        raise InputError(f"cannot be opened for itself alone: {error.strerror}", source=str(path)) from error
    try:
        size = _size(fd, path)
        if size < least:
            raise InputError(
                "the disk does not fit", source=str(path), expected=f"at least {least} bytes", found=f"{size}"
            )
        _zero(fd, least)
        yield fd, size
        os.fsync(fd)
        with suppress(OSError):  # not every device has partitions
            fcntl.ioctl(fd, BLKRRPART)
    finally:
        os.close(fd)


def _size(fd: int, path: Path) -> int:
    """Bytes; UnsupportedError for sectors that the disk is not made for, InputError for a device without a size."""
    try:
        (sector,) = struct.unpack("i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))
    except OSError:  # a character device
        sector = SECTOR
    if sector != SECTOR:
        words = "has sectors of another size"
        raise UnsupportedError(words, source=str(path), expected="512 bytes", found=str(sector))
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        size = 0
    if size <= 0:
        raise InputError("has no size: nothing can be kept on it", source=str(path))
    return size // SECTOR * SECTOR


def _zero(fd: int, size: int) -> None:
    """Make the first ``size`` bytes zeros, by the device itself where it can."""
    with suppress(OSError):
        fcntl.ioctl(fd, BLKZEROOUT, struct.pack("QQ", 0, size // SECTOR * SECTOR))
        return
    for at in range(0, size, len(ZEROS)):
        write_at(fd, ZEROS[: size - at], at)


def _user(path: Path) -> str:
    """Who uses the device or one of its partitions, "" when nobody is known to."""
    numbers = {_number(path.stat().st_rdev)}
    numbers |= {entry.read_text().strip() for number in list(numbers) for entry in (SYSFS / number).glob("*/dev")}
    for line in _lines(MOUNTS):
        words = line.split(" ")
        if len(words) > 4 and words[2] in numbers:
            return f"mounted at {words[4]}"
    for line in _lines(SWAPS)[1:]:
        swap = Path(line.split()[0])
        with suppress(OSError):
            if _number(swap.stat().st_rdev) in numbers:
                return f"swap space ({swap})"
    return ""


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # no /proc here
        return []
