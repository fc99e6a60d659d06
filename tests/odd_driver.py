"""A driver with changed answers: Python functions in front of the system's Vulkan loader.

Pass `OddDriver.get_instance_proc_addr` to `Device.open` or `Device.wrap`. Functions that are not
changed go to the driver; calls of functions in `SIGNATURES` are counted.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

from systems import vulkan_loader

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
    "vkGetDeviceQueue": "vPIIP",
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
    "vkAllocateCommandBuffers": "iPPP",
    "vkResetCommandPool": "iPQI",
    "vkBeginCommandBuffer": "iPP",
    "vkEndCommandBuffer": "iP",
    "vkCreateFence": "iPPPP",
    "vkDestroyFence": "vPQP",
    "vkResetFences": "iPIP",
    "vkGetFenceStatus": "iPQ",
    "vkCreateSemaphore": "iPPPP",
    "vkDestroySemaphore": "vPQP",
    "vkCmdPipelineBarrier": "vPIIIIPIPIP",
    "vkCmdFillBuffer": "vPQQQI",
    "vkCmdCopyBuffer": "vPQQIP",
    "vkQueueSubmit": "iPIPQ",
    "vkQueueWaitIdle": "iP",
    "vkWaitForFences": "iPIPIQ",
    "vkWaitSemaphores": "iPPQ",
    "vkGetSemaphoreCounterValue": "iPQP",
    "vkGetMemoryFdKHR": "iPPP",
    "vkGetMemoryFdPropertiesKHR": "iPIiP",
    "vkGetDeviceFaultInfoEXT": "iPPP",
    "vkCreateDebugUtilsMessengerEXT": "iPPPP",
    "vkDestroyDebugUtilsMessengerEXT": "vPQP",
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
# Of types, number of heaps and heaps in a VkPhysicalDeviceMemoryProperties; of that in a
# VkPhysicalDeviceMemoryProperties2.
TYPES_OFFSET = 4
HEAP_COUNT_OFFSET = 4 + 32 * 8
HEAPS_OFFSET = HEAP_COUNT_OFFSET + 4
MEMORY_PROPERTIES_OFFSET = 16
MEMORY_BUDGET_PROPERTIES = 1000237000
# Of memoryTypeBits in a VkMemoryRequirements; of that in a VkMemoryRequirements2.
TYPE_BITS_OFFSET = 16
REQUIREMENTS_OFFSET = 16
MAX_EXTENSION_NAME = 256
# Number and names of the extensions in a VkDeviceCreateInfo.
EXTENSIONS_OFFSET = 48
# In a VkMemoryAllocateInfo.
TYPE_INDEX_OFFSET = 24


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
        self._library = vulkan_loader()
        self._original = GetProcAddr(("vkGetInstanceProcAddr", self._library))
        self._instead: dict[str, list[Callable[..., Any]]] = {}
        self._failures: dict[str, Callable[..., int | None]] = {}
        self._made: dict[tuple[str, int], Any] = {}
        self._added: dict[str, Any] = {}
        self.get_instance_proc_addr = GetProcAddr(self._instance_function)
        self._get_device_proc_addr = GetProcAddr(self._device_function)
        self._of_device: Any = None

    def instead(self, name: str, function: Callable[..., Any] | None) -> None:
        """Calls `function(original, *arguments)` for a function of the driver.

        The original of a second one is the first one. None takes all of them away.
        """
        prototype(name)
        if function is None:
            self._instead.pop(name, None)
        else:
            self._instead.setdefault(name, []).append(function)

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Calls `function(*arguments)` for one that the driver does not have."""
        self._added[name] = prototype(name)(function)

    def after(self, name: str, change: Callable[..., None]) -> None:
        """Lets `change(*arguments)` change what a function of the driver has answered."""

        def instead(original: Function, *arguments: Any) -> int | None:
            result = original(*arguments)
            change(*arguments)
            return result

        self.instead(name, instead)

    def fail(
        self,
        name: str,
        result: int,
        when: Callable[..., bool] = lambda *_: True,
        times: int | None = None,
    ) -> None:
        """Lets a function fail with a `VkResult` where `when(*arguments)` says so.

        So often, or until `recover`.
        """
        prototype(name)
        left = [times]

        def answer(*arguments: Any) -> int | None:
            if left[0] == 0 or not when(*arguments):
                return None
            if left[0] is not None:
                left[0] -= 1
            return result

        self._failures[name] = answer

    def recover(self, name: str) -> None:
        """Ends what `fail` began."""
        self._failures.pop(name, None)

    def set_heap_size(self, index: int, size: int) -> None:
        self._change_memory_properties(lambda it: poke(it + HEAPS_OFFSET + 16 * index, "Q", size))

    def set_memory_type_flags(self, index: int, flags: int) -> None:
        self._change_memory_properties(lambda it: poke(it + TYPES_OFFSET + 8 * index, "I", flags))

    def set_memory(self, heaps: list[tuple[int, int]], types: list[tuple[int, int]]) -> None:
        """Heaps (size, flags) and types (heap, flags) that all resources can have.

        Whatever is allocated, the driver is asked for its type 0.
        """

        def change(properties: int) -> None:
            poke(properties, "I", len(types))
            for index, (heap, flags) in enumerate(types):
                poke(properties + TYPES_OFFSET + 8 * index, "I", flags)
                poke(properties + TYPES_OFFSET + 8 * index + 4, "I", heap)
            poke(properties + HEAP_COUNT_OFFSET, "I", len(heaps))
            for index, (size, flags) in enumerate(heaps):
                poke(properties + HEAPS_OFFSET + 16 * index, "Q", size)
                poke(properties + HEAPS_OFFSET + 16 * index + 8, "I", flags)

        def allocate(original: Function, device: int, info: int, *rest: Any) -> int | None:
            index = peek(info + TYPE_INDEX_OFFSET, "I")
            poke(info + TYPE_INDEX_OFFSET, "I", 0)
            try:
                return original(device, info, *rest)
            finally:
                poke(info + TYPE_INDEX_OFFSET, "I", index)

        self._change_memory_properties(change)
        self.instead("vkAllocateMemory", allocate)
        every, offset = (1 << len(types)) - 1, TYPE_BITS_OFFSET
        for name in ("vkGetBufferMemoryRequirements", "vkGetImageMemoryRequirements"):
            self.after(name, lambda *it: poke(it[2] + offset, "I", every))
            name = name.replace("vkGet", "vkGetDevice")
            self.after(name, lambda *it: poke(it[2] + REQUIREMENTS_OFFSET + offset, "I", every))
            name = name.replace("vkGetDevice", "vkGet") + "2"
            self.after(name, lambda *it: poke(it[2] + REQUIREMENTS_OFFSET + offset, "I", every))

    def set_heap_budget(self, index: int, budget: int, usage: int) -> None:
        """What VK_EXT_memory_budget says of a heap."""

        def change(_: int, properties: int) -> None:
            found = chain(properties).get(MEMORY_BUDGET_PROPERTIES)
            if found:
                poke(found + 16 + 8 * index, "Q", budget)
                poke(found + 16 + 8 * 16 + 8 * index, "Q", usage)

        self.after("vkGetPhysicalDeviceMemoryProperties2", change)

    def add_device_extension(self, name: str) -> None:
        """Says that the device has an extension; the driver does not see that it is enabled."""
        added = name.encode().ljust(MAX_EXTENSION_NAME, b"\0") + struct.pack("I", 1)

        def enumerate_them(
            original: Function, device: int, layer: int | None, count: int, found: int | None
        ) -> int | None:
            room = peek(count, "I")
            result = original(device, layer, count, found)
            if not layer:
                number = peek(count, "I")
                if found is not None and number < room:
                    ctypes.memmove(found + number * len(added), added, len(added))
                poke(count, "I", number + 1)
            return result

        def create(original: Function, physical: int, info: int, *rest: Any) -> int | None:
            count, names = (
                peek(info + EXTENSIONS_OFFSET, "I"),
                peek(info + EXTENSIONS_OFFSET + 8, "Q"),
            )
            given = [peek(names + 8 * index, "Q") for index in range(count)]
            kept = [it for it in given if ctypes.string_at(it) != name.encode()]
            array = (ctypes.c_uint64 * (len(kept) + 1))(*kept)
            poke(info + EXTENSIONS_OFFSET, "I", len(kept))
            poke(info + EXTENSIONS_OFFSET + 8, "Q", ctypes.addressof(array))
            try:
                return original(physical, info, *rest)
            finally:
                poke(info + EXTENSIONS_OFFSET, "I", count)
                poke(info + EXTENSIONS_OFFSET + 8, "Q", names)

        self.instead("vkEnumerateDeviceExtensionProperties", enumerate_them)
        self.instead("vkCreateDevice", create)

    def _change_memory_properties(self, change: Callable[[int], None]) -> None:
        self.after("vkGetPhysicalDeviceMemoryProperties", lambda _, it: change(it))
        self.after(
            "vkGetPhysicalDeviceMemoryProperties2",
            lambda _, it: change(it + MEMORY_PROPERTIES_OFFSET),
        )

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
        if not address and name in self._added:
            address = ctypes.cast(self._added[name], ctypes.c_void_p).value
        if not address or (name.removesuffix("KHR") not in SIGNATURES and name not in SIGNATURES):
            return address
        known = name if name in SIGNATURES else name.removesuffix("KHR")
        made = self._made.get((name, address))
        if made is None:
            original = prototype(known)(address)

            def call(*arguments: Any) -> int | None:
                self.calls[known] += 1
                failure = self._failures.get(known)
                failed = failure(*arguments) if failure else None
                if failed is not None:
                    return failed
                function = original
                for instead in self._instead.get(known, ()):
                    function = functools.partial(instead, function)
                return function(*arguments)

            made = self._made[name, address] = prototype(known)(call)
        return ctypes.cast(made, ctypes.c_void_p).value
