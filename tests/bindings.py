"""Creates devices with the Vulkan bindings `vulkan` and `volkano`, as their users do."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vk_mem import Device

LAYER = "VK_LAYER_KHRONOS_validation"
VALIDATION = os.environ.get("VK_MEM_TEST_VALIDATION") != "0"
API_VERSION = (1, 1)
DEBUG_UTILS = "VK_EXT_debug_utils"


class Bound(NamedTuple):
    """A device of a binding, and ours around it."""

    binding: Any
    handle: Any
    queue: Any
    family: int
    device: Device


def import_vulkan() -> Any:
    return pytest.importorskip("vulkan", exc_type=(ImportError, OSError))


@contextmanager
def import_volkano() -> Iterator[Any]:
    vulkan_object = pytest.importorskip("vulkan_object")
    pytest.importorskip("volkano")
    xml = Path(vulkan_object.__file__).parent / "vk.xml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLKANO_XML", str(xml))
        module = importlib.import_module("volkano")
        module.get_registry()
        yield module


@contextmanager
def vulkan_device(index: int) -> Iterator[Bound]:
    """With the cffi binding; what the validation layer says fails the test."""
    vk = import_vulkan()
    messages: list[str] = []

    def heard(_severity: Any, _types: Any, data: Any, _user: Any) -> int:
        messages.append(vk.ffi.string(data.pMessage).decode())
        return 0

    application = vk.VkApplicationInfo(
        pApplicationName="tests", apiVersion=vk.VK_MAKE_VERSION(*API_VERSION, 0)
    )
    instance = vk.vkCreateInstance(
        vk.VkInstanceCreateInfo(
            pApplicationInfo=application,
            ppEnabledLayerNames=[LAYER] if VALIDATION else [],
            ppEnabledExtensionNames=[DEBUG_UTILS] if VALIDATION else [],
        ),
        None,
    )
    messenger = None
    if VALIDATION:
        severity = vk.VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT
        severity |= vk.VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT
        create = vk.vkGetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT")
        messenger = create(
            instance,
            vk.VkDebugUtilsMessengerCreateInfoEXT(
                messageSeverity=severity,
                messageType=vk.VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
                pfnUserCallback=heard,
            ),
            None,
        )
    physical = vk.vkEnumeratePhysicalDevices(instance)[index]
    families = vk.vkGetPhysicalDeviceQueueFamilyProperties(physical)
    wanted = vk.VK_QUEUE_GRAPHICS_BIT | vk.VK_QUEUE_COMPUTE_BIT
    family = next(i for i, it in enumerate(families) if it.queueFlags & wanted)
    queue_info = vk.VkDeviceQueueCreateInfo(
        queueFamilyIndex=family, queueCount=1, pQueuePriorities=[1.0]
    )
    handle = vk.vkCreateDevice(
        physical, vk.VkDeviceCreateInfo(pQueueCreateInfos=[queue_info]), None
    )
    queue = vk.vkGetDeviceQueue(handle, family, 0)
    device = Device.wrap(
        instance,
        physical,
        handle,
        api_version=API_VERSION,
        extensions=[DEBUG_UTILS] if VALIDATION else [],
        queue=queue,
        queue_family_index=family,
    )
    try:
        yield Bound(vk, handle, queue, family, device)
    finally:
        vk.vkDestroyDevice(handle, None)
        if messenger is not None:
            destroy = vk.vkGetInstanceProcAddr(instance, "vkDestroyDebugUtilsMessengerEXT")
            destroy(instance, messenger, None)
        vk.vkDestroyInstance(instance, None)
    assert messages == []


def array(struct: Any, field: str, element: Any, *values: Any) -> Any:
    """A C array as the pointer that a field of a ctypes struct takes."""
    pointer = dict(struct._fields_)[field]
    return ctypes.cast((element * len(values))(*values), pointer)


@contextmanager
def volkano_device(index: int) -> Iterator[Bound]:
    """With the ctypes binding. Without a messenger, the validation layer prints its messages."""
    with import_volkano() as vk:
        major, minor = API_VERSION
        application = vk.VkApplicationInfo(
            sType=vk.VK_STRUCTURE_TYPE_APPLICATION_INFO, apiVersion=(major << 22) | (minor << 12)
        )
        info = vk.VkInstanceCreateInfo(
            sType=vk.VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, pApplicationInfo=application.ptr
        )
        if VALIDATION:
            names = array(type(info), "ppEnabledLayerNames", ctypes.c_char_p, LAYER.encode())
            info.enabledLayerCount, info.ppEnabledLayerNames = 1, names
        instance = vk.VkInstance()
        assert vk.vkCreateInstance(info.ref, None, instance.ref) is vk.VK_SUCCESS
        count = vk.uint32()
        vk.vkEnumeratePhysicalDevices(instance, count.ref, None)
        found = (vk.VkPhysicalDevice * count.value)()
        vk.vkEnumeratePhysicalDevices(
            instance, count.ref, ctypes.cast(found, ctypes.POINTER(vk.VkPhysicalDevice))
        )
        physical = vk.VkPhysicalDevice(found[index].value)
        queue_info = vk.VkDeviceQueueCreateInfo(
            sType=vk.VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, queueFamilyIndex=0, queueCount=1
        )
        queue_info.pQueuePriorities = array(
            type(queue_info), "pQueuePriorities", ctypes.c_float, 1.0
        )
        device_info = vk.VkDeviceCreateInfo(
            sType=vk.VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
            queueCreateInfoCount=1,
            pQueueCreateInfos=queue_info.ptr,
        )
        handle = vk.VkDevice()
        created = vk.vkCreateDevice(physical, device_info.ref, None, handle.ref)
        assert created is vk.VK_SUCCESS
        queue = vk.VkQueue()
        vk.vkGetDeviceQueue(handle, 0, 0, queue.ref)
        device = Device.wrap(instance, physical, handle, api_version=API_VERSION, queue=queue)
        try:
            yield Bound(vk, handle, queue, 0, device)
        finally:
            vk.vkDestroyDevice(handle, None)
            vk.vkDestroyInstance(instance, None)
