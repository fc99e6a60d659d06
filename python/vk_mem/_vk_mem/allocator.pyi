from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, final, overload

from typing_extensions import Buffer as PythonBuffer

from vk_mem._typing import (
    AliasBufferKeywords,
    AliasImageKeywords,
    AliasKeywords,
    AliasStructKeywords,
    AllocationKeywords,
    BufferInfoKeywords,
    BufferKeywords,
    Choice,
    FilledBufferKeywords,
    Flags,
    ImageInfoKeywords,
    ImageKeywords,
    ImageMemoryKeywords,
    ImportKeywords,
    ManyBufferKeywords,
    ManyImageKeywords,
    ManyKeywords,
    ManyStructKeywords,
    MemoryImportKeywords,
    PoolKeywords,
    StructInfoKeywords,
    StructKeywords,
    SupportsArrayInterface,
)
from vk_mem._vk_mem.lifetime import DeviceMemoryEvent
from vk_mem._vk_mem.moving import Defragmentation
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.buffer import Buffer
from vk_mem._vk_mem.objects.device import Device
from vk_mem._vk_mem.objects.image import Image
from vk_mem._vk_mem.objects.pool import Pool
from vk_mem._vk_mem.objects.recording import Recording, Ring
from vk_mem._vk_mem.objects.resource import Resource
from vk_mem._vk_mem.objects.statistics import HeapBudget, TotalStatistics
from vk_mem._vk_mem.objects.virtual_block import VirtualBlock
from vk_mem._vk_mem.objects.virtual_blocks import _VirtualBlocks
from vk_mem._vk_mem.objects.watch import _EventCounter, _Watch
from vk_mem._vk_mem.transfer import Transfers
from vk_mem.debugging.options import Debug
from vk_mem.dump import Dump
from vk_mem.errors import CorruptionError, VkMemError
from vk_mem.memory.buffer_range import BufferRange
from vk_mem.memory.defragmentation import DefragmentationPolicy, DefragmentationStatistics, Move
from vk_mem.memory.retention import EmptyBlockRetention
from vk_mem.observe.faults import FaultReport
from vk_mem.observe.leaks import Leaks
from vk_mem.observe.tables import HeapBudgets

_RecordTo = str | PathLike[str] | Ring | Recording
_Thoroughness = Literal["fast", "balanced", "full", "extensive"]
_OnMove = TypeVar("_OnMove", bound=Callable[[list[Move]], object] | None)
_OnCorruption = TypeVar("_OnCorruption", bound=Callable[[CorruptionError], object] | None)
_OnLost = TypeVar("_OnLost", bound=Callable[[list[Any]], object] | None)
_Resource = TypeVar("_Resource", bound=Resource)
_OnPressure = TypeVar("_OnPressure", bound=Callable[[int, HeapBudget], object] | None)
_OnDeviceMemory = TypeVar("_OnDeviceMemory", bound=Callable[[DeviceMemoryEvent], object] | None)
_OnOutOfMemory = TypeVar("_OnOutOfMemory", bound=Callable[[VkMemError], object] | None)

@final
class Allocator:
    def __new__(
        cls,
        device: Device,
        *,
        preferred_block_size: int | None = None,
        heap_size_limits: Sequence[int | None] | None = None,
        frames_in_flight: int = 2,
        empty_block_retention: int | float | EmptyBlockRetention | None = None,
        prefetch: bool = False,
        track_call_sites: bool | int | None = None,
        preferred_small_heap_block_size: int | None = None,
        enforce_allocation_count: bool = True,
        strict_host_access: bool | None = None,
        auto_defragment: bool | DefragmentationPolicy | None = None,
        defragment_when_full: bool = False,
        frames_in_use: int | None = None,
        evict_over_budget: bool = False,
        debug: Debug | None = None,
        record: _RecordTo | Literal[False] | None = None,
    ) -> Self: ...
    @property
    def debug(self) -> Debug | None: ...
    @property
    def strict_host_access(self) -> bool: ...
    @property
    def device(self) -> Device: ...
    @property
    def transfers(self) -> Transfers: ...
    @property
    def preferred_block_sizes(self) -> list[int]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def frames_in_flight(self) -> int: ...
    @property
    def frames_in_use(self) -> int: ...
    @property
    def current_frame_index(self) -> int: ...
    @overload
    def create_buffer(
        self, size: int, buffer_usage: Flags, **keywords: Unpack[BufferKeywords]
    ) -> Buffer: ...
    @overload
    def create_buffer(
        self, size: object, buffer_usage: None = None, /, **keywords: Unpack[ImportKeywords]
    ) -> Buffer: ...
    @overload
    def create_buffer(self, **keywords: Unpack[StructKeywords]) -> Buffer: ...
    @overload
    def create_buffer(
        self, *, buffer_usage: Flags, **keywords: Unpack[FilledBufferKeywords]
    ) -> Buffer: ...
    @overload
    def create_image(
        self,
        format: Choice,
        extent: int | Sequence[int],
        image_usage: Flags,
        **keywords: Unpack[ImageKeywords],
    ) -> Image: ...
    @overload
    def create_image(
        self,
        format: object,
        extent: None = None,
        image_usage: None = None,
        /,
        **keywords: Unpack[ImportKeywords],
    ) -> Image: ...
    @overload
    def create_image(self, **keywords: Unpack[StructKeywords]) -> Image: ...
    @overload
    def create_buffers(
        self,
        sizes: Iterable[int] | PythonBuffer | SupportsArrayInterface,
        buffer_usage: Flags,
        **keywords: Unpack[ManyBufferKeywords],
    ) -> list[Buffer]: ...
    @overload
    def create_buffers(
        self,
        sizes: Iterable[object],
        buffer_usage: None = None,
        /,
        **keywords: Unpack[ManyKeywords],
    ) -> list[Buffer]: ...
    @overload
    def create_buffers(
        self, sizes: None = None, **keywords: Unpack[ManyStructKeywords]
    ) -> list[Buffer]: ...
    def create_images(
        self,
        images: Iterable[tuple[Choice, int | Sequence[int], Flags] | object],
        **keywords: Unpack[ManyImageKeywords],
    ) -> list[Image]: ...
    @overload
    def allocate_memory_pages(
        self,
        size: int,
        alignment: int | None = None,
        *,
        count: int,
        **keywords: Unpack[ManyKeywords],
    ) -> list[Allocation]: ...
    @overload
    def allocate_memory_pages(
        self, size: int, alignment: int | None, count: int, **keywords: Unpack[ManyKeywords]
    ) -> list[Allocation]: ...
    @overload
    def allocate_memory_pages(
        self,
        size: Iterable[int] | PythonBuffer | SupportsArrayInterface,
        alignment: int | None = None,
        count: None = None,
        **keywords: Unpack[ManyKeywords],
    ) -> list[Allocation]: ...
    def free_memory_pages(self, allocations: Iterable[Allocation | None]) -> None: ...
    def destroy_many(self, resources: Iterable[Buffer | Image | Allocation | None]) -> None: ...
    def flush_allocations(
        self,
        allocations: Iterable[Buffer | BufferRange | Image | Allocation],
        offsets: Iterable[int] | PythonBuffer | SupportsArrayInterface | None = None,
        sizes: Iterable[int] | PythonBuffer | SupportsArrayInterface | None = None,
    ) -> None: ...
    def invalidate_allocations(
        self,
        allocations: Iterable[Buffer | BufferRange | Image | Allocation],
        offsets: Iterable[int] | PythonBuffer | SupportsArrayInterface | None = None,
        sizes: Iterable[int] | PythonBuffer | SupportsArrayInterface | None = None,
    ) -> None: ...
    @overload
    def create_aliasing_buffer(
        self,
        base: Resource,
        size: int,
        buffer_usage: Flags,
        **keywords: Unpack[AliasBufferKeywords],
    ) -> Buffer: ...
    @overload
    def create_aliasing_buffer(
        self,
        base: Resource,
        size: object,
        buffer_usage: None = None,
        /,
        **keywords: Unpack[AliasKeywords],
    ) -> Buffer: ...
    @overload
    def create_aliasing_buffer(
        self, base: Resource, **keywords: Unpack[AliasStructKeywords]
    ) -> Buffer: ...
    @overload
    def create_aliasing_image(
        self,
        base: Resource,
        format: Choice,
        extent: int | Sequence[int],
        image_usage: Flags,
        **keywords: Unpack[AliasImageKeywords],
    ) -> Image: ...
    @overload
    def create_aliasing_image(
        self,
        base: Resource,
        format: object,
        extent: None = None,
        image_usage: None = None,
        /,
        **keywords: Unpack[AliasKeywords],
    ) -> Image: ...
    @overload
    def create_aliasing_image(
        self, base: Resource, **keywords: Unpack[AliasStructKeywords]
    ) -> Image: ...
    def allocate_memory(
        self, size: int, alignment: int | None = None, **keywords: Unpack[AllocationKeywords]
    ) -> Allocation: ...
    def allocate_memory_for_buffer(
        self, buffer: object, *, bind: bool = False, **keywords: Unpack[AllocationKeywords]
    ) -> Allocation: ...
    def allocate_memory_for_image(
        self, image: object, *, bind: bool = False, **keywords: Unpack[ImageMemoryKeywords]
    ) -> Allocation: ...
    def import_memory_fd(
        self, fd: int, size: int, **keywords: Unpack[MemoryImportKeywords]
    ) -> Allocation: ...
    def import_memory_win32_handle(
        self, handle: int, size: int, **keywords: Unpack[MemoryImportKeywords]
    ) -> Allocation: ...
    def import_host_pointer(
        self,
        data: PythonBuffer | SupportsArrayInterface | int,
        size: int | None = None,
        **keywords: Unpack[MemoryImportKeywords],
    ) -> Allocation: ...
    def find_memory_type_index(
        self, allowed_type_bits: int | None = None, **keywords: Unpack[AllocationKeywords]
    ) -> int: ...
    @overload
    def find_memory_type_index_for_buffer_info(
        self, size: int, buffer_usage: Flags, **keywords: Unpack[BufferInfoKeywords]
    ) -> int: ...
    @overload
    def find_memory_type_index_for_buffer_info(
        self, size: object, buffer_usage: None = None, /, **keywords: Unpack[AllocationKeywords]
    ) -> int: ...
    @overload
    def find_memory_type_index_for_buffer_info(
        self, **keywords: Unpack[StructInfoKeywords]
    ) -> int: ...
    @overload
    def find_memory_type_index_for_image_info(
        self,
        format: Choice,
        extent: int | Sequence[int],
        image_usage: Flags,
        **keywords: Unpack[ImageInfoKeywords],
    ) -> int: ...
    @overload
    def find_memory_type_index_for_image_info(
        self,
        format: object,
        extent: None = None,
        image_usage: None = None,
        /,
        **keywords: Unpack[AllocationKeywords],
    ) -> int: ...
    @overload
    def find_memory_type_index_for_image_info(
        self, **keywords: Unpack[StructInfoKeywords]
    ) -> int: ...
    def create_pool(self, **keywords: Unpack[PoolKeywords]) -> Pool: ...
    def build_stats_string(self, detailed: bool = True) -> str: ...
    def snapshot(self) -> Dump: ...
    def heap_budgets(self) -> HeapBudgets: ...
    def leaks(self) -> Leaks: ...
    def _end_block(self, exception: BaseException | None, end: Callable[[], None]) -> None: ...
    def explain_fault(self, *, device_lost: bool = False) -> FaultReport | None: ...
    def _count_events(self) -> _EventCounter: ...
    def _watch(self, by: str | None, this_thread: bool) -> _Watch: ...
    def _sample(
        self, names: int
    ) -> tuple[
        int,
        int,
        list[tuple[str | None, int, int]],
        list[tuple[int, int, int, int, int, int]],
        tuple[int, int, int, int],
    ]: ...
    def _repr_html_(self) -> str: ...
    def on_pressure(self, callback: _OnPressure, threshold: float = 0.9) -> _OnPressure: ...
    def on_out_of_memory(self, callback: _OnOutOfMemory) -> _OnOutOfMemory: ...
    def on_device_memory(self, callback: _OnDeviceMemory) -> _OnDeviceMemory: ...
    def on_move(self, callback: _OnMove) -> _OnMove: ...
    def on_lost(self, callback: _OnLost) -> _OnLost: ...
    def on_corruption(self, callback: _OnCorruption) -> _OnCorruption: ...
    def check_corruption(self, memory_type_bits: int | None = None) -> int: ...
    def touch_many(self, resources: Iterable[_Resource]) -> list[_Resource]: ...
    def make_allocations_lost(self) -> int: ...
    def create_lost_allocation(self) -> Allocation: ...
    def defragment(
        self,
        *,
        pool: Pool | None = None,
        algorithm: _Thoroughness = "balanced",
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        progress: Callable[[DefragmentationStatistics], object] | None = None,
    ) -> DefragmentationStatistics: ...
    def defragment_step(
        self,
        max_bytes: int = 16777216,
        max_moves: int = 128,
        *,
        pool: Pool | None = None,
        algorithm: _Thoroughness = "balanced",
    ) -> DefragmentationStatistics: ...
    def begin_defragmentation(
        self,
        resources: Iterable[Buffer | Image | Allocation] = (),
        *,
        pool: Pool | None = None,
        algorithm: _Thoroughness = "balanced",
        max_bytes_per_pass: int = 0,
        max_allocations_per_pass: int = 0,
        break_callback: Callable[[], object] | None = None,
    ) -> Defragmentation: ...
    def _relocate(self, objects: Sequence[Buffer | Image]) -> int: ...
    def trim(self) -> int: ...
    def calculate_statistics(self) -> TotalStatistics: ...
    def validate(self) -> None: ...
    def set_current_frame_index(self, frame: int) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class _HeapDebugger:
    def __new__(cls, allocator: Allocator, debug: Debug) -> Self: ...
    def add_buffer(self, buffer: Buffer) -> int: ...
    def remove_buffer(self, number: int) -> None: ...
    def enter(self) -> None: ...
    def allocated(self, number: int, offset: int, size: int, name: str | None) -> None: ...
    def note_object(self, number: int, offset: int, reference: object) -> None: ...
    def freed(self, number: int, offset: int) -> int | None: ...
    def leaves(self, number: int, offset: int) -> None: ...
    def check(self) -> int: ...
    def check_new(self) -> None: ...
    def raise_found(self) -> None: ...
    def report(self) -> None: ...
    def end(self) -> None: ...

def record(
    allocator: Allocator | VirtualBlock | Iterable[Allocator | VirtualBlock], to: _RecordTo
) -> Recording: ...
def _record_ranges(allocator: Allocator, ranges: _VirtualBlocks) -> None: ...
