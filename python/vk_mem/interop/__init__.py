"""Handles and create-info structs of the Python bindings of Vulkan: to this package and back.

The bindings are `vulkan` (cffi), `volkano` (ctypes) and `vulkan-py` (ctypes; it imports as
`vulkan_py`), and by their shapes every other one that is made with ctypes or cffi. None of them is
imported before one of the functions that name it is called, and neither is cffi.
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
