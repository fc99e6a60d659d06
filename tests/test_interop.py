"""Handles and structs of the bindings `vulkan` and `volkano`, and of our own ctypes classes.

`vulkan-py` is under the GPL and not installed: `vulkan_py` below only has the same shape.
"""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from support import repr_without_addresses

from vk_mem import Allocator, SimulatedDevice, interop
from vk_mem.errors import InvalidArgumentError

HANDLE = 0x1234_5678_9ABC_DEF0
BUFFER_INFO_SIZE = 56


# ---- bindings ----


class VkInstance(ctypes.c_void_p):
    pass


class VkPhysicalDevice(ctypes.c_void_p):
    pass


class VkDevice(ctypes.c_void_p):
    pass


class VkBuffer(ctypes.c_uint64):
    pass


class VkImage(ctypes.c_uint64):
    pass


class VkBufferCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("usage", ctypes.c_uint32),
        ("sharingMode", ctypes.c_int),
        ("queueFamilyIndexCount", ctypes.c_uint32),
        ("pQueueFamilyIndices", ctypes.POINTER(ctypes.c_uint32)),
    )


class VkImageCreateInfo(ctypes.Structure):
    _fields_ = (("sType", ctypes.c_int), ("rest", ctypes.c_uint64 * 10))


@ctypes.CFUNCTYPE(ctypes.c_void_p, VkInstance, ctypes.c_char_p)
def get_instance_proc_addr(_instance: Any, _name: Any) -> None:
    return None


@pytest.fixture
def vulkan_py(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the shape of `vulkan-py`: handles, and the loader's function beside them."""
    module = types.ModuleType("vulkan_py")
    for cls in (VkInstance, VkPhysicalDevice, VkDevice, VkBuffer, VkImage):
        copy = type(cls.__name__, (cls.__base__,), {"__module__": "vulkan_py.handles"})
        setattr(module, cls.__name__, copy)
    module.vkGetInstanceProcAddr = get_instance_proc_addr  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vulkan_py", module)
    return module


@pytest.fixture(scope="module")
def vulkan() -> Any:
    return pytest.importorskip("vulkan", exc_type=(ImportError, OSError))


@pytest.fixture(scope="module")
def volkano() -> Any:
    vulkan_object = pytest.importorskip("vulkan_object")
    pytest.importorskip("volkano")
    xml = Path(vulkan_object.__file__).parent / "vk.xml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLKANO_XML", str(xml))
        module = importlib.import_module("volkano")
        module.get_registry()
        yield module


# ---- handles to int ----


class Index:
    def __index__(self) -> int:
        return HANDLE


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (None, 0),
        (0, 0),
        (HANDLE, HANDLE),
        (2**64 - 1, 2**64 - 1),
        (Index(), HANDLE),
        (VkBuffer(HANDLE), HANDLE),
        (VkDevice(HANDLE), HANDLE),
        (VkDevice(None), 0),
        (ctypes.c_void_p(), 0),
        (ctypes.c_uint64(12), 12),
        (ctypes.c_size_t(12), 12),
    ],
)
def test_to_int(handle: object, expected: int) -> None:
    value = interop.to_int(handle)
    assert type(value) is int
    assert value == expected


def test_to_int_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert interop.to_int(numpy.uint64(HANDLE)) == HANDLE
    with pytest.raises(InvalidArgumentError):
        interop.to_int(numpy.bool_(True))
    with pytest.raises(InvalidArgumentError):
        interop.to_int(numpy.float64(1.0))


def test_to_int_does_not_read_digits() -> None:
    # int() of a c_uint64 parses its bytes: 0x31 is the digit 1.
    assert interop.to_int(VkBuffer(0x31)) == 0x31


def test_to_int_of_vulkan(vulkan: Any) -> None:
    assert interop.to_int(vulkan.ffi.cast("VkBuffer", HANDLE)) == HANDLE
    assert interop.to_int(vulkan.ffi.cast("VkDevice", HANDLE), "VkDevice") == HANDLE
    assert interop.to_int(vulkan.ffi.cast("uint64_t", HANDLE)) == HANDLE
    assert interop.to_int(vulkan.ffi.cast("void *", HANDLE), "VkDevice") == HANDLE
    assert interop.to_int(vulkan.ffi.NULL) == 0
    assert interop.to_int(vulkan.VK_NULL_HANDLE) == 0


def test_to_int_of_volkano(volkano: Any) -> None:
    assert interop.to_int(volkano.VkBuffer(HANDLE)) == HANDLE
    assert interop.to_int(volkano.VkBuffer(HANDLE), "VkBuffer") == HANDLE
    assert interop.to_int(volkano.VkInstance()) == 0


def test_to_int_of_an_opaque_pointer() -> None:
    opaque = type("VkBuffer_T", (ctypes.Structure,), {})
    pointer = ctypes.cast(HANDLE, ctypes.POINTER(opaque))
    assert interop.to_int(pointer) == HANDLE
    assert interop.to_int(pointer, "VkBuffer") == HANDLE
    assert interop.to_int(ctypes.POINTER(opaque)()) == 0
    with pytest.raises(InvalidArgumentError, match="expected a VkImage handle, got a VkBuffer"):
        interop.to_int(pointer, "VkImage")


@pytest.mark.parametrize(
    "handle",
    [
        True,
        -1,
        2**64,
        1.0,
        "1",
        b"1",
        object(),
        [1],
        ctypes.c_int64(-1),
        ctypes.c_bool(True),
        ctypes.c_double(1.0),
        ctypes.c_char_p(b"1"),
        ctypes.py_object(1),
        ctypes.byref(VkBuffer(1)),
        ctypes.pointer(VkBuffer(1)),
        ctypes.pointer(VkBufferCreateInfo()),
        VkBufferCreateInfo(),
        VkBuffer,
    ],
    ids=repr_without_addresses,
)
def test_to_int_refuses(handle: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a Vulkan handle, got .*") as caught:
        interop.to_int(handle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        "VkBuffer *",
        "VkBufferCreateInfo *",
        "uint64_t *",
        "VkBuffer[1]",
    ],
)
def test_to_int_refuses_pointers_to_handles_of_vulkan(vulkan: Any, make: str) -> None:
    with pytest.raises(InvalidArgumentError):
        interop.to_int(vulkan.ffi.new(make))


def test_to_int_refuses_other_cdata_of_vulkan(vulkan: Any) -> None:
    for value in (
        vulkan.VkBufferCreateInfo(size=16),
        vulkan.ffi.cast("float", 1.0),
        vulkan.ffi.cast("int", -1),
        vulkan.lib.vkGetInstanceProcAddr,
    ):
        with pytest.raises(InvalidArgumentError):
            interop.to_int(value)


def test_to_int_refuses_a_handle_of_another_kind(vulkan: Any, volkano: Any) -> None:
    for handle in (VkImage(5), vulkan.ffi.cast("VkImage", 5), volkano.VkImage(5)):
        with pytest.raises(InvalidArgumentError, match="expected a VkBuffer handle, got a VkImage"):
            interop.to_int(handle, "VkBuffer")


# ---- structs ----


def struct_address(struct: object, size: int = BUFFER_INFO_SIZE) -> interop.StructAddress:
    return interop.struct_address(struct, "VkBufferCreateInfo", size)


def test_struct_of_ctypes() -> None:
    info = VkBufferCreateInfo(size=16)
    expected = (ctypes.addressof(info), True)
    assert struct_address(info) == expected
    assert struct_address(ctypes.pointer(info)) == expected
    assert struct_address(ctypes.byref(info)) == expected


def test_struct_of_a_subclass() -> None:
    class Mine(VkBufferCreateInfo):
        pass

    assert struct_address(Mine()).type_verified


def test_struct_of_vulkan(vulkan: Any) -> None:
    info = vulkan.VkBufferCreateInfo(size=16, usage=1)
    address = int(vulkan.ffi.cast("uintptr_t", vulkan.ffi.addressof(info)))
    assert struct_address(info) == (address, True)
    assert struct_address(vulkan.ffi.addressof(info)) == (address, True)
    owned = vulkan.ffi.new("VkBufferCreateInfo *")
    assert struct_address(owned) == (int(vulkan.ffi.cast("uintptr_t", owned)), True)
    array = vulkan.ffi.new("VkBufferCreateInfo[2]")
    assert struct_address(array) == (int(vulkan.ffi.cast("uintptr_t", array)), True)
    void = vulkan.ffi.cast("void *", owned)
    assert struct_address(void) == (int(vulkan.ffi.cast("uintptr_t", owned)), False)


def test_struct_of_volkano(volkano: Any) -> None:
    info = volkano.VkBufferCreateInfo(size=16)
    assert ctypes.sizeof(info) == BUFFER_INFO_SIZE
    expected = (ctypes.addressof(info), True)
    assert struct_address(info) == expected
    assert struct_address(info.ref) == expected
    assert struct_address(info.ptr) == expected


def test_address_of_a_struct() -> None:
    info = VkBufferCreateInfo()
    address = ctypes.addressof(info)
    assert struct_address(address) == (address, False)
    assert struct_address(ctypes.c_void_p(address)) == (address, False)


@pytest.mark.parametrize(
    "struct",
    [
        None,
        0,
        True,
        64,
        0x7FFF_0000_0004,
        1.5,
        "info",
        ctypes.c_void_p(),
        ctypes.POINTER(VkBufferCreateInfo)(),
        VkImageCreateInfo(),
        ctypes.pointer(VkImageCreateInfo()),
        ctypes.byref(VkImageCreateInfo()),
        ctypes.byref(VkBufferCreateInfo(), 8),
        ctypes.pointer(ctypes.c_uint64(5)),
        type("VkBufferCreateInfo", (ctypes.c_uint64,), {})(5),
        type("VkBufferCreateInfo", (), {})(),
    ],
    ids=repr_without_addresses,
)
def test_struct_address_refuses(struct: object) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a VkBufferCreateInfo") as caught:
        struct_address(struct)
    assert "\n" not in str(caught.value)


def test_struct_address_refuses_cdata(vulkan: Any) -> None:
    ffi = vulkan.ffi
    for struct in (
        vulkan.VkImageCreateInfo(),
        ffi.new("VkImageCreateInfo *"),
        ffi.cast("VkBufferCreateInfo *", 0),
        ffi.new("VkBufferCreateInfo[]", 0),
        ffi.cast("VkBuffer", HANDLE),
        ffi.new("VkBuffer *"),
        ffi.cast("uint64_t", 5),
        vulkan.lib.vkGetInstanceProcAddr,
    ):
        with pytest.raises(InvalidArgumentError):
            struct_address(struct)


def test_struct_address_refuses_one_that_is_too_small(vulkan: Any) -> None:
    for struct in (VkBufferCreateInfo(), vulkan.VkBufferCreateInfo()):
        with pytest.raises(InvalidArgumentError, match="at least 64 bytes, got one of 56 bytes"):
            struct_address(struct, 64)


# ---- int to handles ----


def test_to_vulkan(vulkan: Any) -> None:
    handle = interop.to_vulkan(HANDLE, "VkBuffer")
    assert handle == vulkan.ffi.cast("VkBuffer", HANDLE)
    assert interop.to_int(handle, "VkBuffer") == HANDLE
    assert interop.to_vulkan(0, "VkBuffer") == vulkan.ffi.NULL


def test_to_volkano(volkano: Any) -> None:
    handle = interop.to_volkano(HANDLE, "VkBuffer")
    assert isinstance(handle, volkano.VkBuffer)
    assert handle.value == HANDLE
    assert interop.to_volkano(0, "VkBuffer").value is None


def test_to_vulkan_py(vulkan_py: Any) -> None:
    handle = interop.to_vulkan_py(HANDLE, "VkBuffer")
    assert isinstance(handle, vulkan_py.VkBuffer)
    assert handle.value == HANDLE


def test_from_one_binding_to_another(vulkan: Any, volkano: Any, vulkan_py: Any) -> None:
    handle = interop.as_handle(VkBuffer(HANDLE), vulkan, "VkBuffer")
    handle = interop.as_handle(handle, volkano, "VkBuffer")
    handle = interop.as_handle(handle, volkano.get_registry(), "VkBuffer")
    handle = interop.as_handle(handle, vulkan_py, "VkBuffer")
    assert handle.value == HANDLE


def test_as_handle_refuses(vulkan: Any, volkano: Any, vulkan_py: Any) -> None:
    for binding in (vulkan, volkano, volkano.get_registry(), vulkan_py, sys):
        with pytest.raises(InvalidArgumentError, match="has no handle type VkNonsense"):
            interop.as_handle(1, binding, "VkNonsense")
    with pytest.raises(InvalidArgumentError, match="got a VkImage"):
        interop.as_handle(VkImage(1), vulkan_py, "VkBuffer")


# ---- devices ----


def test_device_arguments_of_integers() -> None:
    assert interop.device_arguments(8, 16, 24) == (8, 16, 24, None)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_device_arguments_refuse_null_and_other_kinds(position: int) -> None:
    for wrong in (None, 0, VkBuffer(5)):
        handles: list[object] = [8, 16, 24]
        handles[position] = wrong
        with pytest.raises(InvalidArgumentError):
            interop.device_arguments(*handles)


def test_device_arguments_of_vulkan(vulkan: Any) -> None:
    cast = vulkan.ffi.cast
    loader = int(cast("uintptr_t", vulkan.lib.vkGetInstanceProcAddr))
    assert interop.device_arguments(
        cast("VkInstance", 8), cast("VkPhysicalDevice", 16), cast("VkDevice", 24)
    ) == (8, 16, 24, loader)
    assert interop.device_arguments(8, 16, 24, binding=vulkan) == (8, 16, 24, loader)


def test_device_arguments_of_another_cffi_binding(vulkan: Any) -> None:
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("typedef struct VkInstance_T *VkInstance;")
    assert interop.device_arguments(ffi.cast("VkInstance", 8), 16, 24) == (8, 16, 24, None)


def test_device_arguments_of_vulkan_py(vulkan_py: Any) -> None:
    loader = ctypes.cast(get_instance_proc_addr, ctypes.c_void_p).value
    handles = (vulkan_py.VkInstance(8), vulkan_py.VkPhysicalDevice(16), vulkan_py.VkDevice(24))
    assert interop.device_arguments(*handles) == (8, 16, 24, loader)


def test_device_arguments_of_volkano(vulkan: Any, volkano: Any) -> None:
    info = volkano.VkInstanceCreateInfo(
        sType=volkano.VkStructureType.VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
    )
    instance = volkano.VkInstance()
    if int(volkano.vkCreateInstance(info.ref, None, instance.ref)) != 0:
        pytest.skip("no Vulkan driver")
    try:
        handles = (instance, volkano.VkPhysicalDevice(16), volkano.VkDevice(24))
        loader = int(vulkan.ffi.cast("uintptr_t", vulkan.lib.vkGetInstanceProcAddr))
        assert interop.device_arguments(*handles)[1:] == (16, 24, loader)
        registry = volkano.get_registry()
        assert interop.device_arguments(instance, 16, 24, binding=registry)[3] == loader
    finally:
        volkano.vkDestroyInstance(instance, None)


# ---- what is imported ----


def test_nothing_is_imported() -> None:
    code = (
        "import sys, vk_mem.flags, vk_mem.errors, vk_mem.interop as interop\n"
        "interop.to_int(5); interop.device_arguments(8, 16, 24)\n"
        "loaded = {'cffi', '_cffi_backend', 'vulkan', 'volkano', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_show_texts_of_the_caller_on_one_line() -> None:
    long = "k\n" * 500
    for call in (
        lambda: interop.to_int(object(), long, long),
        lambda: interop.struct_address(object(), long, 8, long),
        lambda: interop.chain_address(object(), long),
        lambda: interop.function_address(0, long),
        lambda: interop.function_address(object(), long),
        lambda: interop.as_handle(5, interop, long),
        lambda: interop.device_arguments(5, 5, 0, device_keyword=long),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    with Allocator(SimulatedDevice()) as allocator:
        table = allocator.heap_budgets()
    with pytest.raises(TypeError, match="keyword must be a str, not a HeapBudgets"):
        interop.chain_address(object(), table)  # type: ignore[arg-type]
