"""A driver that is odd in single answers: the system's Vulkan loader behind functions of Python.

`OddDriver.get_instance_proc_addr` goes to `Device.open` or `Device.wrap`. What is not changed goes
to the driver untouched; functions named in `SIGNATURES` are counted.
"""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

Function = Callable[..., int | None]

OUT_OF_HOST_MEMORY = -1
OUT_OF_DEVICE_MEMORY = -2
UNKNOWN = -13
VALIDATION_FAILED = -1000011001

# Result and arguments: i is a VkResult, v none; P a pointer or a handle, I 32 bits, Q 64 bits.
SIGNATURES = {
    "vkCreateInstance": "iPPP",
    "vkEnumerateInstanceExtensionProperties": "iPPP",
    "vkEnumeratePhysicalDevices": "iPPP",
    "vkEnumerateDeviceExtensionProperties": "iPPPP",
    "vkGetPhysicalDeviceProperties": "vPP",
    "vkGetPhysicalDeviceProperties2": "vPP",
    "vkGetPhysicalDeviceMemoryProperties": "vPP",
    "vkGetPhysicalDeviceMemoryProperties2": "vPP",
    "vkGetPhysicalDeviceQueueFamilyProperties": "vPPP",
    "vkGetPhysicalDeviceFeatures": "vPP",
    "vkGetPhysicalDeviceFeatures2": "vPP",
    "vkGetPhysicalDeviceFormatProperties": "vPIP",
    "vkGetPhysicalDeviceImageFormatProperties": "iPIIIIIP",
    "vkGetPhysicalDeviceImageFormatProperties2": "iPPP",
    "vkGetPhysicalDeviceExternalBufferProperties": "vPPP",
    "vkCreateDevice": "iPPPP",
    "vkDestroyDevice": "vPP",
    "vkAllocateMemory": "iPPPP",
    "vkFreeMemory": "vPQP",
    "vkMapMemory": "iPQQQIP",
    "vkUnmapMemory": "vPQ",
    "vkFlushMappedMemoryRanges": "iPIP",
    "vkInvalidateMappedMemoryRanges": "iPIP",
    "vkCreateBuffer": "iPPPP",
    "vkDestroyBuffer": "vPQP",
    "vkGetBufferMemoryRequirements": "vPQP",
    "vkGetBufferMemoryRequirements2": "vPPP",
    "vkGetDeviceBufferMemoryRequirements": "vPPP",
    "vkBindBufferMemory": "iPQQQ",
    "vkBindBufferMemory2": "iPIP",
    "vkCreateImage": "iPPPP",
    "vkDestroyImage": "vPQP",
    "vkGetImageMemoryRequirements": "vPQP",
    "vkGetImageMemoryRequirements2": "vPPP",
    "vkGetDeviceImageMemoryRequirements": "vPPP",
    "vkBindImageMemory": "iPQQQ",
    "vkBindImageMemory2": "iPIP",
    "vkCreateCommandPool": "iPPPP",
    "vkDestroyCommandPool": "vPQP",
    "vkCreateFence": "iPPPP",
    "vkDestroyFence": "vPQP",
    "vkCmdFillBuffer": "vPQQQI",
    "vkCmdCopyBuffer": "vPQQIP",
    "vkQueueSubmit": "iPIPQ",
    "vkWaitForFences": "iPIPIQ",
    "vkGetMemoryFdKHR": "iPPP",
    "vkGetMemoryFdPropertiesKHR": "iPIiP",
}
CODES = {
    "i": ctypes.c_int32,
    "v": None,
    "P": ctypes.c_void_p,
    "I": ctypes.c_uint32,
    "Q": ctypes.c_uint64,
}
GetProcAddr = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

# Offsets in bytes into a VkPhysicalDeviceLimits, and struct codes.
LIMITS = {
    "maxMemoryAllocationCount": (36, "I"),
    "bufferImageGranularity": (48, "Q"),
    "nonCoherentAtomSize": (496, "Q"),
}
# Of the limits in a VkPhysicalDeviceProperties; of that in a VkPhysicalDeviceProperties2.
LIMITS_OFFSET = 296
PROPERTIES_OFFSET = 16
MAINTENANCE_3_PROPERTIES = 1000168000
# Of the heaps in a VkPhysicalDeviceMemoryProperties.
HEAPS_OFFSET = 4 + 32 * 8 + 4


def prototype(name: str) -> Any:
    result, *arguments = SIGNATURES[name]
    return ctypes.CFUNCTYPE(CODES[result], *(CODES[it] for it in arguments))


def peek(address: int, code: str) -> int:
    return struct.unpack(code, ctypes.string_at(address, struct.calcsize(code)))[0]


def poke(address: int, code: str, value: int) -> None:
    ctypes.memmove(address, struct.pack(code, value), struct.calcsize(code))


def chain(address: int | None) -> dict[int, int]:
    """Addresses of the structures of a `pNext` chain, the first one included, by `sType`."""
    found = {}
    while address:
        found[peek(address, "i")] = address
        address = peek(address + 8, "Q")
    return found


class OddDriver:
    """The system's driver with single answers changed. Keep it for as long as its device."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """How often each function was called."""
        self._library = ctypes.CDLL("libvulkan.so.1")
        self._original = GetProcAddr(("vkGetInstanceProcAddr", self._library))
        self._instead: dict[str, Callable[..., Any]] = {}
        self._made: dict[tuple[str, int], Any] = {}
        self.get_instance_proc_addr = GetProcAddr(self._instance_function)
        self._get_device_proc_addr = GetProcAddr(self._device_function)
        self._of_device: Any = None

    def instead(self, name: str, function: Callable[..., Any] | None) -> None:
        """Calls `function(original, *arguments)` for a function of the driver."""
        prototype(name)
        if function is None:
            self._instead.pop(name, None)
        else:
            self._instead[name] = function

    def after(self, name: str, change: Callable[..., None]) -> None:
        """Lets `change(*arguments)` change what a function of the driver has answered."""

        def instead(original: Function, *arguments: Any) -> int | None:
            result = original(*arguments)
            change(*arguments)
            return result

        self.instead(name, instead)

    def fail(self, name: str, result: int, when: Callable[..., bool] = lambda *_: True) -> None:
        """Lets a function fail with a `VkResult` where `when(*arguments)` says so."""
        self.instead(
            name,
            lambda original, *arguments: result if when(*arguments) else original(*arguments),
        )

    def set_heap_size(self, index: int, size: int) -> None:
        def change(address: int) -> None:
            poke(address + HEAPS_OFFSET + 16 * index, "Q", size)

        self.after("vkGetPhysicalDeviceMemoryProperties", lambda _, it: change(it))
        self.after("vkGetPhysicalDeviceMemoryProperties2", lambda _, it: change(it + 16))

    def set_limit(self, name: str, value: int) -> None:
        offset, code = LIMITS[name]

        def change(properties: int) -> None:
            poke(properties + LIMITS_OFFSET + offset, code, value)

        self.after("vkGetPhysicalDeviceProperties", lambda _, it: change(it))
        self.after("vkGetPhysicalDeviceProperties2", lambda _, it: change(it + PROPERTIES_OFFSET))

    def set_max_memory_allocation_size(self, size: int) -> None:
        def change(_: int, properties: int) -> None:
            found = chain(properties).get(MAINTENANCE_3_PROPERTIES)
            if found:
                poke(found + 24, "Q", size)

        self.after("vkGetPhysicalDeviceProperties2", change)

    def _instance_function(self, instance: int | None, name: bytes) -> int | None:
        address = self._original(instance, name)
        if name == b"vkGetInstanceProcAddr":
            return ctypes.cast(self.get_instance_proc_addr, ctypes.c_void_p).value
        if name == b"vkGetDeviceProcAddr" and address:
            self._of_device = GetProcAddr(address)
            return ctypes.cast(self._get_device_proc_addr, ctypes.c_void_p).value
        return self._odd(name.decode(), address)

    def _device_function(self, device: int | None, name: bytes) -> int | None:
        return self._odd(name.decode(), self._of_device(device, name))

    def _odd(self, name: str, address: int | None) -> int | None:
        """The driver's function as it is, or one of ours that stands before it."""
        if not address or (name.removesuffix("KHR") not in SIGNATURES and name not in SIGNATURES):
            return address
        known = name if name in SIGNATURES else name.removesuffix("KHR")
        made = self._made.get((name, address))
        if made is None:
            original = prototype(known)(address)

            def call(*arguments: Any) -> int | None:
                self.calls[known] += 1
                instead = self._instead.get(known)
                return instead(original, *arguments) if instead else original(*arguments)

            made = self._made[name, address] = prototype(known)(call)
        return ctypes.cast(made, ctypes.c_void_p).value
