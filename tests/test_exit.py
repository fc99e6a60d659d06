"""Interpreter exit with objects left open: no crash, and warnings if they are enabled.

Each test runs a separate program.
"""

from __future__ import annotations

import pytest
from conftest import index_of_the_driver
from support import run_python

OPTIONS = [(), ("-X", "dev"), ("-W", "error"), ("-I",)]
START = """
import atexit, builtins, gc, sys, threading, time
import vk_mem
from vk_mem import *
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM
MAPPED = AllocationCreateFlags.MAPPED
TRANSFER = BufferUsage.TRANSFER_SRC | BufferUsage.TRANSFER_DST
"""
OPEN = """
buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED, name="left open")
image = allocator.create_image(Format.R8G8B8A8_UNORM, (8, 8), ImageUsage.TRANSFER_DST)
memory = allocator.allocate_memory(100)
"""
PROGRAMS = {
    "all closed": "with allocator: allocator.create_buffer(64, TRANSFER).destroy()",
    "everything open": OPEN,
    "collected before": OPEN + "del buffer, image, memory",
    "a view open": OPEN + "view = buffer.map().__enter__()",
    "a persistent view open": OPEN + "view = buffer.mapped",
    "a view in builtins": OPEN
    + "builtins.view = memoryview(buffer.map()); del buffer, image, memory",
    "a cycle": OPEN + "buffer.user_data = [buffer, allocator, device]",
    "a closing finaliser": OPEN
    + """
class Closes:
    def __del__(self):
        allocator.close()
buffer.user_data = Closes()
""",
    "a finaliser that allocates": """
class Allocates:
    def __init__(self):
        # Globals are gone when the finaliser runs.
        self.device, self.Allocator = device, Allocator
    def __del__(self):
        self.Allocator(self.device).create_buffer(64, 3)
builtins.kept = Allocates()
""",
    "an exit function": OPEN
    + """
def at_exit():
    try:
        allocator.create_buffer(64, TRANSFER).destroy()
    except UseAfterFreeError:
        print("closed before")
atexit.register(at_exit)
""",
    "sys.exit inside with": "with allocator:\n    sys.exit(0)",
    "a daemon thread inside a call": """
def work():
    flags = AllocationCreateFlags.DEDICATED_MEMORY
    while True:
        allocator.create_buffer(1 << 16, TRANSFER, flags=flags).destroy()
threading.Thread(target=work, daemon=True).start()
if isinstance(device, SimulatedDevice):
    device.set_latency(0.3, "vkAllocateMemory")
time.sleep(0.1)
""",
}
QUIET = {"all closed", "sys.exit inside with"}


def run(program: str, device: str, options: tuple[str, ...]) -> None:
    code = f"{START}device = {device}\nallocator = Allocator(device)\n{PROGRAMS[program]}\n"
    # vk_mem is installed, so -I finds it too.
    done = run_python(code + 'print("end")\n', *options)
    assert done.returncode == 0, done.stderr
    if program != "sys.exit inside with":
        assert done.stdout.startswith("end"), done.stderr
    assert "Traceback" not in done.stderr or "ResourceWarning" in done.stderr, done.stderr
    assert "panicked" not in done.stderr, done.stderr
    assert "Fatal" not in done.stderr, done.stderr
    watched = options in {("-X", "dev"), ("-W", "error")}
    if watched and program not in QUIET:
        assert "ResourceWarning" in done.stderr, program
        if "buffer" in PROGRAMS[program] and "finaliser" not in program and "daemon" not in program:
            assert "'left open'" in done.stderr or "3 live objects" in done.stderr, done.stderr
    else:
        assert done.stderr == ""


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("program", PROGRAMS)
def test_exit_with_a_simulated_device(program: str, options: tuple[str, ...]) -> None:
    run(program, 'SimulatedDevice("non-coherent")', options)


@pytest.mark.driver
@pytest.mark.parametrize("options", OPTIONS[1:3], ids=" ".join)
@pytest.mark.parametrize("program", PROGRAMS)
def test_exit_with_a_real_device(program: str, options: tuple[str, ...]) -> None:
    run(program, f"Device.open(index={index_of_the_driver()})", options)


WRAPPED = """
import vulkan as vk
application = vk.VkApplicationInfo(apiVersion=vk.VK_MAKE_VERSION(1, 1, 0))
instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=application), None)
physical = vk.vkEnumeratePhysicalDevices(instance)[{index}]
queue_info = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
handle = vk.vkCreateDevice(
    physical, vk.VkDeviceCreateInfo(pQueueCreateInfos=[queue_info]), None)
queue = vk.vkGetDeviceQueue(handle, 0, 0)
device = Device.wrap(instance, physical, handle, api_version=(1, 1), queue=queue)
allocator = Allocator(device)
buffer = allocator.create_buffer(64, TRANSFER, flags=RANDOM | MAPPED, name="left open")
device.fill_buffer(buffer, 1)
"""
DESTROY = "vk.vkDestroyDevice(handle, None)\nvk.vkDestroyInstance(instance, None)\n"
WRAPPED_PROGRAMS = {
    # The order in which most programs end: theirs first, what Python collects later.
    "closed, then the device ends": "buffer.destroy(); allocator.close()\n" + DESTROY,
    "closed, the device stays": "buffer.destroy(); allocator.close()\n",
    "closed and collected": "buffer.destroy(); allocator.close()\n"
    + DESTROY
    + "del device, allocator, buffer; gc.collect()\n",
    "open, then the device ends": DESTROY,
    "open, the device stays": "",
    "a view open": "view = buffer.mapped\n",
    "an empty allocator collected": "buffer.destroy()\n" + DESTROY + "del allocator\n",
}


@pytest.mark.driver
@pytest.mark.parametrize("options", OPTIONS[:3], ids=" ".join)
@pytest.mark.parametrize("program", WRAPPED_PROGRAMS)
def test_exit_with_a_wrapped_device(program: str, options: tuple[str, ...]) -> None:
    pytest.importorskip("vulkan", exc_type=(ImportError, OSError))
    code = START + WRAPPED.format(index=index_of_the_driver())
    done = run_python(code + WRAPPED_PROGRAMS[program] + 'print("end")\n', *options)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    if options and not program.startswith("closed"):
        assert "was never closed" in done.stderr
    else:
        assert "ResourceWarning" not in done.stderr
