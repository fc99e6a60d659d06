"""The command `vk-mem`. Needs the extra `vk-mem[cli]`, except for `vk-mem doctor`; `vk-mem demo`
needs NumPy as well.

Exit status: 0 on success, 1 on failure, 2 for wrong usage. Errors are one line on stderr.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


def main() -> None:
    """Runs the command and exits the process with its status."""
    _prepare_streams()
    try:
        status = _run()
        # Flushes here, where a write error can be reported; at interpreter shutdown it cannot.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does: not an error.
        status = 0
        _discard_output()
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        status = _failed(f"{where}{error.strerror or error}")
        _discard_output()
    except MemoryError:
        status = _failed("not enough memory")
    sys.exit(status)


def _run() -> int:
    try:
        import rich  # noqa: F401
        import typer
    except ModuleNotFoundError as missing:
        if sys.argv[1:2] == ["doctor"]:
            # Whoever has trouble with an installation must not need more of it to be helped.
            from vk_mem.doctor.__main__ import main as examine

            return examine(sys.argv[2:], "vk-mem doctor")
        return _failed(f"the command line needs {missing.name}: pip install 'vk-mem[cli]'")
    from vk_mem.cli.commands import app
    from vk_mem.cli.output import say

    # Base class of all usage errors of click; older versions of typer have it in another module.
    mro: tuple[Any, ...] = typer.BadParameter.__mro__
    usage_error = next(it for it in mro if it.__name__ == "ClickException")
    streams = sys.stdout, sys.stderr
    try:
        status = app(standalone_mode=False)
    except SystemExit:
        # rich and click raise this from the help when the pipe is closed. Commands return instead.
        sys.stdout, sys.stderr = streams
        raise BrokenPipeError from None
    except usage_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
        else:
            say(f"{error.format_message().rstrip('.')} (see vk-mem --help)")
        return int(error.exit_code)
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0


def _failed(message: str) -> int:
    """Prints an error without rich or typer, which may be missing or broken."""
    with contextlib.suppress(OSError):
        print(f"vk-mem: {message}", file=sys.stderr)
    return 1


def _prepare_streams() -> None:
    """Makes the standard streams safe to write.

    Streams that the shell closed (`>&-`) get the null device; otherwise the next file to be opened
    would get their descriptor. Unencodable characters are written as question marks.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
        nowhere: Any = open(os.devnull, "r+", encoding="utf-8")  # noqa: SIM115  (until the end)
        sys.stdin = sys.stdin or nowhere
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        errors = getattr(stream, "errors", None)
        # Undecodable bytes of a file name can be written unchanged, but only in UTF-8.
        is_whole = errors == "surrogateescape" and stream.encoding.lower().startswith("utf")
        if is_whole or errors not in ("strict", "surrogateescape"):
            continue
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard_output() -> None:
    """Sends output to the null device, so that the flush at exit cannot fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
