"""Debug callbacks written in Python: driver calls release the GIL, so these can run.

Each test runs a separate program, because a failure is a crash or a deadlock.
"""

from __future__ import annotations

import pytest
from bindings import VALIDATION, import_vulkan
from conftest import index_of_the_driver
from support import run_python

pytestmark = pytest.mark.driver

START = """
import threading, time
import vulkan as vk
from vk_mem import *
RANDOM = AllocationCreateFlags.HOST_ACCESS_RANDOM
# Bound to memory that is not for addresses: the layer says so in vkBindBufferMemory.
WRONG = BufferUsage.VERTEX_BUFFER | BufferUsage.SHADER_DEVICE_ADDRESS
once = []

def heard(severity, types, data, user):
    if "vkBindBufferMemory" in vk.ffi.string(data.pMessage).decode() and once:
        once.pop()()
    return 0

application = vk.VkApplicationInfo(pApplicationName="t", apiVersion=vk.VK_MAKE_VERSION(1, 2, 0))
instance = vk.vkCreateInstance(
    vk.VkInstanceCreateInfo(
        pApplicationInfo=application,
        ppEnabledLayerNames=["VK_LAYER_KHRONOS_validation"],
        ppEnabledExtensionNames=["VK_EXT_debug_utils"],
    ),
    None,
)
messenger = vk.vkGetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT")(
    instance,
    vk.VkDebugUtilsMessengerCreateInfoEXT(
        messageSeverity=0x1100, messageType=2, pfnUserCallback=heard
    ),
    None,
)
physical = vk.vkEnumeratePhysicalDevices(instance)[INDEX]
queue = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
features = vk.VkPhysicalDeviceVulkan12Features(bufferDeviceAddress=1)
handle = vk.vkCreateDevice(
    physical, vk.VkDeviceCreateInfo(pNext=features, pQueueCreateInfos=[queue]), None
)
device = Device.wrap(
    instance, physical, handle, api_version=(1, 2), extensions=["VK_EXT_debug_utils"]
)
allocator = Allocator(device)
kept = allocator.create_buffer(1024, BufferUsage.VERTEX_BUFFER, flags=RANDOM)
"""
END = """
assert not once, "the layer said nothing"
kept.destroy()
allocator.close()
vk.vkDestroyDevice(handle, None)
print("done")
"""
CLOSED_MEANWHILE = """
inside, refused = threading.Event(), []

def close():
    inside.wait()
    try:
        allocator.close()
    except BufferError as error:
        refused.append(error)

def let_others_run():
    inside.set()
    closing.join()

closing = threading.Thread(target=close)
closing.start()
once.append(let_others_run)
buffer = allocator.create_buffer(1024, WRONG)
assert len(refused) == 1 and buffer.alive and not allocator.closed
buffer.destroy()
"""
MAPPED_MEANWHILE = """
inside = threading.Event()

def bind():
    for it in allocator.create_buffers([1024], WRONG, flags=RANDOM):
        it.destroy()

def map_it():
    with kept.map():
        pass

def let_others_run():
    inside.set()
    time.sleep(0.5)

once.append(let_others_run)
threads = [threading.Thread(target=bind), threading.Thread(target=map_it)]
threads[0].start()
inside.wait()
threads[1].start()
time.sleep(0.2)
# Of the same memory, with the interpreter held, while one binds and one waits to map.
allocator.create_buffer(1024, BufferUsage.VERTEX_BUFFER).destroy()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("program", [CLOSED_MEANWHILE, MAPPED_MEANWHILE], ids=["closed", "mapped"])
def test_others_run_while_the_driver_calls_back(program: str) -> None:
    import_vulkan()
    if not VALIDATION:
        pytest.skip("nobody calls back without the validation layer")
    start = START.replace("INDEX", str(index_of_the_driver()))
    done = run_python(start + program + END, timeout=30)
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr
