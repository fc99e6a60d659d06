from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self, Unpack, final

from vk_mem._typing import BufferDetails, Flags, ImageDetails
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.buffer import Buffer
from vk_mem._vk_mem.objects.image import Image
from vk_mem.memory.defragmentation import DefragmentationStatistics, Location

@final
class Defragmentation:
    @property
    def statistics(self) -> DefragmentationStatistics: ...
    def end(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> DefragmentationPass: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class DefragmentationPass:
    @property
    def moves(self) -> tuple[DefragmentationMove, ...]: ...
    def record(
        self, command_buffer: object, moves: Iterable[DefragmentationMove] | None = None
    ) -> int: ...

@final
class DefragmentationMove:
    @property
    def resource(self) -> Buffer | Image | Allocation: ...
    @property
    def operation(self) -> Literal["copy", "ignore", "destroy"]: ...
    @operation.setter
    def operation(self, value: Literal["copy", "ignore", "destroy"] | int) -> None: ...
    @property
    def recorded(self) -> bool: ...
    @property
    def source(self) -> Location: ...
    @property
    def destination(self) -> DefragmentationDestination: ...

@final
class DefragmentationDestination:
    @property
    def device_memory(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    def create_buffer(
        self,
        size: object = None,
        buffer_usage: Flags | None = None,
        **keywords: Unpack[BufferDetails],
    ) -> int: ...
    def create_image(
        self,
        format: object = None,
        extent: Iterable[int] | int | None = None,
        image_usage: Flags | None = None,
        **keywords: Unpack[ImageDetails],
    ) -> int: ...
