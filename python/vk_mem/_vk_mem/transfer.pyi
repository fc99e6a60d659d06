from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, final, overload

from typing_extensions import Buffer as PythonBuffer

from vk_mem._typing import ArrayLike, Choice, SupportsArrayInterface
from vk_mem._vk_mem.allocator import Allocator
from vk_mem._vk_mem.objects.buffer import Buffer
from vk_mem._vk_mem.objects.image import Image
from vk_mem.memory.buffer_range import BufferRange
from vk_mem.memory.transfers import TransferStatistics

@final
class Transfer:
    @property
    def way(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def done(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def result(self, timeout: float | None = None) -> Any: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def __await__(self) -> Generator[Any, None, Any]: ...

@final
class RegisteredArray:
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
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
class _TransferBatch:
    def flush(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Transfers:
    def __new__(
        cls,
        allocator: Allocator,
        ring_size: int = 67108864,
        *,
        queue: Literal["main", "transfer"] | None = None,
    ) -> Self: ...
    @property
    def ring_size(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @overload
    def upload(
        self,
        array: ArrayLike,
        resource: Buffer | BufferRange,
        offset: int | None = None,
        *,
        dtype: Any = None,
        progress: Callable[[int, int], object] | None = None,
        way: Literal["direct", "ring", "import"] | None = None,
    ) -> Transfer: ...
    @overload
    def upload(
        self,
        array: ArrayLike,
        resource: Image,
        offset: Sequence[int] | None = None,
        *,
        dtype: Any = None,
        progress: Callable[[int, int], object] | None = None,
        way: Literal["direct", "ring", "import", "host"] | None = None,
        mip_level: int | None = None,
        base_layer: int | None = None,
        layer_count: int | None = None,
        extent: Sequence[int] | None = None,
        aspect: Choice | None = None,
        layout: Choice | None = None,
    ) -> Transfer: ...
    def upload_many(
        self,
        arrays: Sequence[ArrayLike],
        buffers: Sequence[Buffer | BufferRange] | Sequence[Image],
        offsets: Iterable[int] | PythonBuffer | SupportsArrayInterface | None = None,
        *,
        dtype: Any = None,
    ) -> list[Transfer]: ...
    @overload
    def download(
        self,
        resource: Buffer | BufferRange,
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        *,
        offset: int | None = None,
        size: int | None = None,
        out: PythonBuffer | SupportsArrayInterface | None = None,
        progress: Callable[[int, int], object] | None = None,
        way: Literal["direct", "ring", "import"] | None = None,
    ) -> Transfer: ...
    @overload
    def download(
        self,
        resource: Image,
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        *,
        offset: Sequence[int] | None = None,
        out: PythonBuffer | SupportsArrayInterface | None = None,
        progress: Callable[[int, int], object] | None = None,
        way: Literal["direct", "ring", "import", "host"] | None = None,
        mip_level: int | None = None,
        base_layer: int | None = None,
        layer_count: int | None = None,
        extent: Sequence[int] | None = None,
        aspect: Choice | None = None,
    ) -> Transfer: ...
    def download_many(
        self,
        buffers: Sequence[Buffer | BufferRange] | Sequence[Image],
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        *,
        outs: Sequence[PythonBuffer | SupportsArrayInterface] | None = None,
    ) -> list[Transfer]: ...
    def generate_mipmaps(
        self, image: Image, filter: Choice | None = None, layout: Choice | None = None
    ) -> Transfer: ...
    def batch(self) -> _TransferBatch: ...
    def flush(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def stats(self) -> TransferStatistics: ...
    def explain(
        self,
        array: ArrayLike | int,
        resource: Buffer | BufferRange | Image,
        direction: Literal["upload", "download"] = "upload",
    ) -> str: ...
    def register(self, array: PythonBuffer | SupportsArrayInterface) -> RegisteredArray: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
