"""The command `vk-mem`. Needs the extra `vk-mem[cli]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command; the exit status is 0, 1 when something is wrong, 2 for a wrong call."""
    try:
        import numpy  # noqa: F401
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as missing:
        print(
            f"vk-mem: the command line needs {missing.name}: pip install 'vk-mem[cli,numpy]'",
            file=sys.stderr,
        )
        sys.exit(1)
    from vk_mem.cli.commands import app

    app()
