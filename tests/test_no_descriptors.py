"""A process without free file descriptors cannot load a driver, and gets a clear error."""

from __future__ import annotations

import pytest
from support import run_python

pytestmark = pytest.mark.driver

OPEN_ALL = """
import os, resource
import vk_mem
from vk_mem import interop, errors, flags
if {first}:
    vk_mem.list_physical_devices()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range({left}):
    os.close(opened.pop())
for call in (vk_mem.list_physical_devices, vk_mem.Device.open, lambda: vk_mem.Device.open("x")):
    try:
        call()
    except vk_mem.InitializationError as error:
        print(error)
for fd in opened:
    os.close(fd)
print(len(vk_mem.list_physical_devices()) > 0)
"""


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("first", [False, True])
def test_what_is_missing_is_said(real_device, first, left):
    done = run_python(OPEN_ALL.format(first=first, left=left))
    assert done.returncode == 0, done.stderr
    *errors, found = done.stdout.splitlines()
    assert found == "True"
    if left == 0:
        assert len(errors) == 3
    for line in errors:
        assert "RLIMIT_NOFILE" in line and "oo many open files" in line
        assert "install" not in line
