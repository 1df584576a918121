"""``python -m mbtool`` and the ``mbtool`` script: run the command line, turn errors into one line and a code."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from contextlib import suppress

GC_THRESHOLD = 50_000
"""Start-up alone makes tens of thousands of objects that all stay: looking for garbage among them finds none."""


def main() -> None:
    """Exit codes: 0 fine, 1 findings or a failed proof, 2 unusable input or usage, 128 + N ended by signal N."""
    try:
        _run()
    except SystemExit as end:
        beside = sys.modules.get("mbtool.beside")
        if beside and beside.at_work():
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            os._exit(end.code if isinstance(end.code, int) else bool(end.code))
        raise


def _run() -> None:
    gc.set_threshold(GC_THRESHOLD)
    _open_standard_files()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what the terminal's encoding does not have
        sys.stdout.reconfigure(errors="backslashreplace")
    from mbtool.errors import MbtoolError

    try:
        from mbtool.cli.app import app

        app(prog_name="mbtool")
    except MbtoolError as error:
        if os.environ.get("MBTOOL_DEBUG"):
            raise
        print(f"mbtool: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # files have errors of their own: this is what is printed
        if os.environ.get("MBTOOL_DEBUG"):
            raise
        from mbtool.cli.app import print_no_more

        print_no_more()
        print(f"mbtool: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        if os.environ.get("MBTOOL_DEBUG"):
            raise
        print("mbtool: this takes more memory than there is", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mbtool: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # What is left dies with the process: the interpreter need not search it for cycles. But what lief leaves
        # uncollected, its library reports as leaked.
        if "lief" not in sys.modules:
            gc.freeze()


def _end(number: int, frame: object) -> None:
    """Asked to end: as after Ctrl-C, what is unfinished goes, logs are kept, QEMU ends, too."""
    sys.exit(128 + number)


def _open_standard_files() -> None:
    """A program may be started without them: what it opens or starts must not take their place."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # becomes the lowest number that is free: this one
            setattr(sys, name, open(fd, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
