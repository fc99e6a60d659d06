"""What not every system has: marks for tests that need it, and what differs between systems."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

import pytest

WINDOWS = os.name == "nt"
LOADERS = {"win32": "vulkan-1.dll", "darwin": "libvulkan.1.dylib"}


def lacks(missing: bool, what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(missing, reason=f"{sys.platform} has no {what}")


needs_a_shell = lacks(WINDOWS, "shell of Unix")
needs_descriptors = lacks(WINDOWS, "file descriptors of memory")
needs_fork = lacks(not hasattr(os, "fork"), "os.fork")
needs_named_pipes = lacks(not hasattr(os, "mkfifo"), "pipes in the file system")
needs_permissions = lacks(WINDOWS, "permissions of files as Unix has them")
needs_timers = lacks(not hasattr(signal, "setitimer"), "timers that send signals")
needs_unix_sockets = lacks(not hasattr(socket, "AF_UNIX"), "Unix sockets in Python")


def need_descriptors() -> None:
    """Skips the rest of a test on systems where no device exports file descriptors of memory."""
    if needs_descriptors.args[0]:
        pytest.skip(needs_descriptors.kwargs["reason"])


def vulkan_loader() -> ctypes.CDLL:
    """The library through which programs reach the drivers."""
    return ctypes.CDLL(LOADERS.get(sys.platform, "libvulkan.so.1"))


def open_descriptors() -> int:
    """How many this process has open; 0 on systems that do not list them."""
    return 0 if WINDOWS else len(os.listdir("/dev/fd"))


def ctrl_c() -> None:
    """Interrupts this process, from any of its threads."""
    if WINDOWS:
        # There os.kill would end the process.
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGINT)
