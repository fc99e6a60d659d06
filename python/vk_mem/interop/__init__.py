"""Converts handles and create-info structs between this package and Python's Vulkan bindings.

Supported are `vulkan` (cffi), `volkano` (ctypes), `vulkan-py` (ctypes; imported as `vulkan_py`),
and any other binding made with ctypes or cffi. A binding, or cffi, is imported only when a function
that names it is called.
"""

from vk_mem.interop.bindings import (
    DeviceArguments,
    StructAddress,
    as_handle,
    chain_address,
    device_arguments,
    function_address,
    is_struct_at,
    struct_address,
    to_int,
    to_volkano,
    to_vulkan,
    to_vulkan_py,
)

__all__ = [
    "DeviceArguments",
    "StructAddress",
    "as_handle",
    "chain_address",
    "device_arguments",
    "function_address",
    "is_struct_at",
    "struct_address",
    "to_int",
    "to_volkano",
    "to_vulkan",
    "to_vulkan_py",
]
