"""The command `vk-mem`. Needs the extra `vk-mem[cli]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command; the exit status is 0, 1 when something is wrong, 2 for a wrong call."""
    try:
        from vk_mem.cli.commands import app
    except ModuleNotFoundError as missing:
        if missing.name not in ("rich", "typer", "numpy"):
            raise
        print(
            f"vk-mem: the command line needs {missing.name}: pip install 'vk-mem[cli,numpy]'",
            file=sys.stderr,
        )
        sys.exit(1)
    app()
