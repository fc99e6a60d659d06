from collections.abc import Callable, Iterable
from typing import Any, final

from typing_extensions import Buffer as PythonBuffer

from vk_mem._typing import ArrayLike, SupportsArrayInterface
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.resource import Resource
from vk_mem.flags import BufferUsage

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
    def bind(self) -> None: ...
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
