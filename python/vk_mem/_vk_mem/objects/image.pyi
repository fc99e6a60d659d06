from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy.typing as npt
from typing_extensions import Buffer as PythonBuffer

from vk_mem._typing import ArrayLike, Choice, SupportsArrayInterface
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.resource import Resource
from vk_mem.flags import (
    Format,
    ImageLayout,
    ImageTiling,
    ImageType,
    ImageUsage,
    SampleCount,
)
from vk_mem.memory.arrays import SubresourceLayout

@final
class Image(Resource):
    @property
    def handle(self) -> int: ...
    @property
    def format(self) -> Format: ...
    @property
    def extent(self) -> tuple[int, int, int]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def mip_levels(self) -> int: ...
    @property
    def array_layers(self) -> int: ...
    @property
    def samples(self) -> SampleCount: ...
    @property
    def tiling(self) -> ImageTiling: ...
    @property
    def image_type(self) -> ImageType: ...
    @property
    def usage(self) -> ImageUsage: ...
    @property
    def layout(self) -> ImageLayout: ...
    @layout.setter
    def layout(self, layout: Choice) -> None: ...
    @property
    def allocation(self) -> Allocation: ...
    def subresource_layout(
        self,
        mip_level: int | None = None,
        array_layer: int | None = None,
        aspect: Choice | None = None,
    ) -> SubresourceLayout: ...
    @property
    def row_pitch(self) -> int: ...
    @property
    def array_pitch(self) -> int: ...
    @property
    def depth_pitch(self) -> int: ...
    def numpy(
        self,
        mip_level: int | None = None,
        array_layer: int | None = None,
        aspect: Choice | None = None,
        *,
        readonly: bool = False,
    ) -> npt.NDArray[Any]: ...
    def upload(
        self,
        array: ArrayLike,
        mip_level: int | None = None,
        base_layer: int | None = None,
        layer_count: int | None = None,
        offset: Sequence[int] | None = None,
        extent: Sequence[int] | None = None,
        aspect: Choice | None = None,
        layout: Choice | None = None,
        *,
        dtype: Any = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def download(
        self,
        dtype: Any = None,
        shape: int | Iterable[int] | None = None,
        mip_level: int | None = None,
        base_layer: int | None = None,
        layer_count: int | None = None,
        offset: Sequence[int] | None = None,
        extent: Sequence[int] | None = None,
        aspect: Choice | None = None,
        *,
        out: PythonBuffer | SupportsArrayInterface | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Any: ...
    def generate_mipmaps(
        self, filter: Choice | None = None, layout: Choice | None = None
    ) -> None: ...
    def bind(self) -> None: ...
    def destroy(self) -> None: ...
