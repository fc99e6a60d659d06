from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Self, final

from vk_mem._typing import Choice, Flags
from vk_mem._vk_mem.objects.device import Device
from vk_mem._vk_mem.objects.violation import Violation

@final
class SimulatedDevice(Device):
    def __new__(
        cls,
        profile: str | None = None,
        *,
        heaps: Iterable[tuple[int, Flags]] | None = None,
        types: Iterable[tuple[int, Flags]] | None = None,
        device_type: Choice | None = None,
        buffer_image_granularity: int | None = None,
        non_coherent_atom_size: int | None = None,
        max_memory_allocation_count: int | None = None,
        max_memory_allocation_size: int | None = None,
        transfer_queue: bool | None = None,
        queue_flags: Flags | None = None,
        queue_lock: AbstractContextManager[object] | None = None,
        poison_unmapped: bool = False,
        watch_unbound: bool = False,
        fault_reports: bool = False,
    ) -> Self: ...
    @staticmethod
    def profile_names() -> tuple[str, ...]: ...
    def fail_call(self, n: int = 0, vk_result: int = -2) -> None: ...
    def fail_next(self, call: str, count: int = 1, vk_result: int = -2) -> None: ...
    def clear_failures(self) -> None: ...
    def set_latency(self, seconds: float, call: str | None = None) -> None: ...
    def set_heap_budgets(self, budgets: Iterable[int] | None) -> None: ...
    def set_requires_dedicated(self, requires: bool) -> None: ...
    def set_enforces_allocation_count(self, enforces: bool) -> None: ...
    def set_completion(self, completion: str) -> None: ...
    def complete_submissions(self, count: int | None = None) -> int: ...
    def begin_command_buffer(self) -> int: ...
    def record_fill(
        self,
        command_buffer: object,
        buffer: int,
        size: int,
        value: int | None = None,
        *,
        offset: int | None = None,
    ) -> None: ...
    def record_copy(
        self,
        command_buffer: object,
        source: int,
        target: int,
        size: int,
        *,
        source_offset: int | None = None,
        target_offset: int | None = None,
    ) -> None: ...
    def record_barrier(self, command_buffer: object) -> None: ...
    def submit_command_buffer(
        self, command_buffer: object, *, transfer_queue: bool = False
    ) -> None: ...
    def wait_idle(self) -> None: ...
    def submit_fill(
        self, buffer: int, size: int, value: int | None = None, *, offset: int | None = None
    ) -> None: ...
    def submit_copy(
        self,
        source: int,
        target: int,
        size: int,
        *,
        source_offset: int | None = None,
        target_offset: int | None = None,
    ) -> None: ...
    def lose_device(
        self,
        address: int | None = None,
        address_type: Choice | None = None,
        *,
        precision: int = 1,
        description: str = "",
        vendor_infos: Iterable[tuple[str, int, int]] = (),
    ) -> None: ...
    @property
    def pending_submissions(self) -> int: ...
    def call_count(self, call: str | None = None) -> int: ...
    def live_bytes(self, heap: int) -> int: ...
    @property
    def fallible_call_count(self) -> int: ...
    @property
    def live_memory_objects(self) -> int: ...
    @property
    def live_buffers(self) -> int: ...
    @property
    def live_images(self) -> int: ...
    @property
    def violations(self) -> list[Violation]: ...
    def check_unbound(self) -> None: ...
    def take_violations(self) -> list[Violation]: ...
