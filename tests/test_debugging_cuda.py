"""A CUDA kernel that writes beside a buffer, in memory that the allocator exported to it."""

import ctypes
from collections.abc import Callable, Iterator

import pytest
from support import TRANSFER

import vk_mem
from vk_mem import (
    Allocator,
    CorruptionError,
    CorruptionWarning,
    Debug,
    Device,
    ExternalMemoryHandleType,
)

pytestmark = pytest.mark.gpu

BLOCK = 1 << 20
POKE = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry poke(.param .u64 address, .param .u32 value)
{
    .reg .b64 %a;
    .reg .b32 %v;
    ld.param.u64 %a, [address];
    ld.param.u32 %v, [value];
    st.global.u8 [%a], %v;
    ret;
}
"""
"""Stores one byte, by one thread."""

Poke = Callable[[int, int], None]


class HandleDescription(ctypes.Structure):
    """`CUDA_EXTERNAL_MEMORY_HANDLE_DESC`, for a file descriptor."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("fd", ctypes.c_int),
        ("unused", ctypes.c_ubyte * 12),
        ("size", ctypes.c_ulonglong),
        ("flags", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 16),
    ]


class BufferDescription(ctypes.Structure):
    """`CUDA_EXTERNAL_MEMORY_BUFFER_DESC`."""

    _fields_ = [
        ("offset", ctypes.c_ulonglong),
        ("size", ctypes.c_ulonglong),
        ("flags", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 16),
    ]


@pytest.fixture(scope="module")
def cuda() -> Iterator[ctypes.CDLL]:
    """The CUDA driver, with the context of the first device current."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        pytest.skip("there is no CUDA driver")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        pytest.skip("there is no CUDA device")
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert driver.cuCtxSetCurrent(context) == 0
    yield driver
    assert driver.cuDevicePrimaryCtxRelease_v2(device) == 0


@pytest.fixture
def poke(cuda: ctypes.CDLL) -> Iterator[Poke]:
    """Stores one byte at an address of CUDA, and waits until that is done."""
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cuModuleLoadData(ctypes.byref(module), POKE) == 0
    assert cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"poke") == 0

    def store(address: int, value: int) -> None:
        values = (ctypes.c_ulonglong(address), ctypes.c_uint(value))
        pointers = (ctypes.c_void_p * 2)(*(ctypes.addressof(it) for it in values))
        launched = cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, pointers, None)
        assert (launched, cuda.cuCtxSynchronize()) == (0, 0)

    yield store
    assert cuda.cuModuleUnload(module) == 0


def mapped_in_cuda(cuda: ctypes.CDLL, buffer: vk_mem.Buffer) -> tuple[ctypes.c_void_p, int]:
    """Imports the memory object of a buffer; returns CUDA's handle and the address of its start."""
    where = buffer.allocation
    about = HandleDescription(type=1, fd=buffer.export_fd(), size=where.device_memory_size)
    memory, address = ctypes.c_void_p(), ctypes.c_ulonglong()
    assert cuda.cuImportExternalMemory(ctypes.byref(memory), ctypes.byref(about)) == 0
    whole = BufferDescription(offset=0, size=where.device_memory_size)
    mapped = cuda.cuExternalMemoryGetMappedBuffer(
        ctypes.byref(address), memory, ctypes.byref(whole)
    )
    assert mapped == 0
    return memory, address.value


@pytest.mark.parametrize("algorithm", ["tlsf", "linear", "buddy"])
def test_a_kernel_that_writes_beside_a_buffer_is_found(
    cuda: ctypes.CDLL, poke: Poke, real_device: Device, algorithm: str
) -> None:
    debug = Debug(detect_corruption=True, margin=64, quarantine="1M")
    with (
        Allocator(real_device, debug=debug) as allocator,
        allocator.create_pool(
            like=((256, TRANSFER), vk_mem.AllocationCreateInfo()),
            export_handle_types=ExternalMemoryHandleType.OPAQUE_FD,
            algorithm=algorithm,
            block_size=BLOCK,
            max_block_count=1,
        ) as pool,
    ):
        names = ("below", "middle", "above")
        below, middle, above = (
            allocator.create_buffer(1000, TRANSFER, pool=pool, name=name) for name in names
        )
        index = middle.allocation.memory_type_index
        flags = real_device.memory_properties.memory_types[index].property_flags
        assert flags & vk_mem.MemoryPropertyFlags.DEVICE_LOCAL
        memory, start = mapped_in_cuda(cuda, middle)
        at, size = start + middle.allocation.offset, middle.allocation.size
        assert allocator.check_corruption() == 6

        for offset, region in ((-1, "before"), (size, "behind")):
            poke(at + offset, 7)
            with pytest.raises(CorruptionError) as caught:
                allocator.check_corruption()
            error = caught.value
            assert (error.name, error.region, error.others) == ("middle", region, ())
            assert (error.offset, error.length, error.count) == (offset, 1, 1)
            assert error.found is not None and error.expected is not None
            assert error.found[0] == 7
            poke(at + offset, error.expected[0])
            assert allocator.check_corruption() == 6

        # Nothing is written into freed memory that others may still use by its handle, so nothing
        # is found there.
        with pytest.warns(CorruptionWarning, match="a handle of its memory was exported"):
            middle.destroy()
        poke(at + 500, 7)
        pool.check_corruption()
        assert cuda.cuDestroyExternalMemory(memory) == 0
        below.destroy()
        above.destroy()
