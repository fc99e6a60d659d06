"""The command `vk-mem`. Needs the extra `vk-mem[cli]`; `vk-mem demo` needs NumPy as well.

Exit status: 0 when all went well, 1 when the work failed, 2 for wrong usage. Errors are one line on
stderr.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main() -> None:
    """Runs the command and ends the process with its exit status."""
    try:
        import rich  # noqa: F401
        import typer
    except ModuleNotFoundError as missing:
        print(
            f"vk-mem: the command line needs {missing.name}: pip install 'vk-mem[cli]'",
            file=sys.stderr,
        )
        sys.exit(1)
    from vk_mem.cli.commands import app
    from vk_mem.cli.output import say

    # What stands behind all errors of usage; its module is another in older versions of typer.
    mro: tuple[Any, ...] = typer.BadParameter.__mro__
    usage_error = next(it for it in mro if it.__name__ == "ClickException")
    try:
        status = app(standalone_mode=False)
    except usage_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
        else:
            say(f"{error.format_message().rstrip('.')} (see vk-mem --help)")
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be flushed there at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)
