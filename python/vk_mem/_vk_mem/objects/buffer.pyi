from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy.typing as npt
from typing_extensions import Buffer as PythonBuffer

from vk_mem._typing import ArrayLike, SupportsArrayInterface
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.resource import Resource
from vk_mem._vk_mem.transfer import Transfers
from vk_mem.flags import BufferUsage
from vk_mem.memory.buffer_range import BufferRange

@final
class Buffer(Resource):
    @property
    def handle(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def usage(self) -> BufferUsage: ...
    @property
    def device_address(self) -> int: ...
    @property
    def allocation(self) -> Allocation: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __getitem__(self, index: slice, /) -> BufferRange: ...
    def numpy(
        self,
        dtype: npt.DTypeLike | None = None,
        shape: int | Sequence[int] | None = None,
        *,
        offset: int | None = None,
        readonly: bool = False,
    ) -> npt.NDArray[Any]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def bind(self) -> None: ...
    @property
    def _transfers(self) -> Transfers: ...
    def upload(
        self,
        array: ArrayLike,
        offset: int | None = None,
        *,
        dtype: Any = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def download(
        self,
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        *,
        offset: int | None = None,
        size: int | None = None,
        out: PythonBuffer | SupportsArrayInterface | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Any: ...
    def destroy(self) -> None: ...
