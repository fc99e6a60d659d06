from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import ModuleType

from typing_extensions import disjoint_base

from vk_mem._typing import Choice, Flags
from vk_mem._vk_mem.objects.buffer import Buffer
from vk_mem._vk_mem.objects.device_info import DeviceProperties, MemoryProperties, PhysicalDevice
from vk_mem._vk_mem.objects.image import Image
from vk_mem.memory.buffer_range import BufferRange

@disjoint_base
class Device:
    @classmethod
    def open(
        cls,
        name: str | None = None,
        *,
        index: int | None = None,
        validation: bool = False,
        api_version: int | tuple[int, int] | tuple[int, int, int] | None = None,
        extensions: Iterable[str] | None = None,
        without_extensions: Iterable[str] | None = None,
        features: Iterable[str] | None = None,
        queue_flags: Flags | None = None,
        application_name: str = "vk-mem",
        get_instance_proc_addr: object = None,
        allocation_callbacks: object = None,
        fault_reports: bool = False,
    ) -> Device: ...
    @classmethod
    def wrap(
        cls,
        instance: object,
        physical_device: object,
        logical_device: object,
        *,
        api_version: int | tuple[int, int] | tuple[int, int, int],
        extensions: Iterable[str] | None = None,
        queue: object = None,
        queue_family_index: int = 0,
        queue_lock: AbstractContextManager[object] | None = None,
        transfer_queue: object = None,
        transfer_queue_family_index: int | None = None,
        transfer_queue_lock: AbstractContextManager[object] | None = None,
        buffer_device_address: bool = False,
        amd_device_coherent: bool = False,
        binding: ModuleType | None = None,
        get_instance_proc_addr: object = None,
        allocation_callbacks: object = None,
        fault_reports: bool = False,
    ) -> Device: ...
    @property
    def instance(self) -> int: ...
    @property
    def physical_device(self) -> int: ...
    @property
    def handle(self) -> int: ...
    @property
    def queue(self) -> int: ...
    @property
    def queue_family_index(self) -> int: ...
    @property
    def transfer_queue(self) -> int | None: ...
    @property
    def transfer_queue_family_index(self) -> int | None: ...
    @property
    def api_version(self) -> tuple[int, int, int]: ...
    @property
    def extensions(self) -> tuple[str, ...]: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def properties(self) -> DeviceProperties: ...
    @property
    def min_imported_host_pointer_alignment(self) -> int | None: ...
    @property
    def memory_properties(self) -> MemoryProperties: ...
    @property
    def validation_messages(self) -> list[str]: ...
    def fill_buffer(
        self,
        buffer: Buffer | BufferRange,
        value: int = 0,
        *,
        offset: int | None = None,
        size: int | None = None,
    ) -> None: ...
    def copy_buffer(
        self,
        source: Buffer | BufferRange,
        target: Buffer | BufferRange,
        size: int | None = None,
        *,
        source_offset: int | None = None,
        target_offset: int | None = None,
    ) -> None: ...
    def copy_buffer_to_image(
        self,
        buffer: Buffer | BufferRange,
        image: Image,
        *,
        buffer_offset: int | None = None,
        layout: Choice | None = None,
    ) -> None: ...
    def copy_image_to_buffer(
        self,
        image: Image,
        buffer: Buffer | BufferRange,
        *,
        buffer_offset: int | None = None,
        layout: Choice | None = None,
    ) -> None: ...
    def _set_poison_unmapped(self, on: bool) -> None: ...

def list_physical_devices() -> list[PhysicalDevice]: ...
