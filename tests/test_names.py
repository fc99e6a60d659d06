"""Names of flags and formats, keyword arguments, and error messages about both."""

from __future__ import annotations

import enum
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from support import RGBA8, TRANSFER, run_python

import vk_mem
from vk_mem import (
    AllocationCreateFlags,
    AllocationCreateInfo,
    Allocator,
    BufferCreateFlags,
    BufferHeap,
    BufferUsage,
    DeviceType,
    Format,
    ImageCreateFlags,
    ImageTiling,
    ImageType,
    ImageUsage,
    InvalidArgumentError,
    MemoryPropertyFlags,
    MemoryUsage,
    SampleCount,
    VirtualBlock,
    _keywords,
    _typing,
    flags,
)
from vk_mem.flags.names import _names, _webgpu_formats, number_of_names

STUBS = Path(vk_mem.__file__).with_name("_vk_mem")
CLASSES = [getattr(flags, name) for name in flags.__all__]


# ---- names ----


@pytest.mark.parametrize("cls", CLASSES, ids=lambda it: it.__name__)
def test_every_name_of_every_class_is_found(cls: type[enum.IntEnum]) -> None:
    for name, member in cls.__members__.items():
        for text in (name, name.lower(), f"  {name} ", f"{cls.__name__}.{name}"):
            assert number_of_names(text, cls.__name__, "x") == member, text
    # Two names that were looked up as one would hide each other.
    assert {it[1] for it in _names(cls.__name__).values()} == {int(it) for it in cls}


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("VK_BUFFER_USAGE_VERTEX_BUFFER_BIT", "BufferUsage", BufferUsage.VERTEX_BUFFER),
        ("VK_BUFFER_USAGE_2_VERTEX_BUFFER_BIT", "BufferUsage", BufferUsage.VERTEX_BUFFER),
        ("VK_BUFFER_USAGE_CONDITIONAL_RENDERING_BIT_EXT", "BufferUsage", 0x200),
        ("vertex-buffer | transfer_dst", "BufferUsage", 0x82),
        ("VERTEX_BUFFER,TRANSFER_DST", "BufferUsage", 0x82),
        ("VK_FORMAT_ASTC_4x4_UNORM_BLOCK", "Format", Format.ASTC_4x4_UNORM_BLOCK),
        ("VK_SAMPLE_COUNT_4_BIT", "SampleCount", SampleCount.COUNT_4),
        ("4", "SampleCount", SampleCount.COUNT_4),
        ("2d", "ImageType", ImageType.TYPE_2D),
        ("VK_IMAGE_TYPE_3D", "ImageType", ImageType.TYPE_3D),
        ("VK_IMAGE_CREATE_2D_ARRAY_COMPATIBLE_BIT", "ImageCreateFlags", 0x20),
        ("VK_IMAGE_TILING_LINEAR", "ImageTiling", ImageTiling.LINEAR),
        ("VMA_MEMORY_USAGE_AUTO_PREFER_HOST", "MemoryUsage", MemoryUsage.AUTO_PREFER_HOST),
        ("VMA_ALLOCATION_CREATE_MAPPED_BIT", "AllocationCreateFlags", 0x4),
        ("min_time", "AllocationCreateFlags", AllocationCreateFlags.STRATEGY_MIN_TIME),
        ("VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT", "MemoryPropertyFlags", 0x2),
        (["host_visible", 0x4, MemoryPropertyFlags.HOST_CACHED], "MemoryPropertyFlags", 0xE),
        (("TRANSFER_SRC|TRANSFER_DST", "SAMPLED"), "ImageUsage", 0x7),
        ({"MAPPED"}, "AllocationCreateFlags", 0x4),
        ((), "AllocationCreateFlags", 0),
    ],
)
def test_spellings(text: Any, kind: str, wanted: int) -> None:
    assert number_of_names(text, kind, "x") == wanted


def test_names_of_webgpu_are_formats() -> None:
    """Of `GPUTextureFormat`, all but `depth24plus`, which may be one of two."""
    wanted = {
        "r8unorm": Format.R8_UNORM,
        "rg16float": Format.R16G16_SFLOAT,
        "rgba8unorm-srgb": Format.R8G8B8A8_SRGB,
        "bgra8unorm": Format.B8G8R8A8_UNORM,
        "bgra8unorm-srgb": Format.B8G8R8A8_SRGB,
        "rgba32uint": Format.R32G32B32A32_UINT,
        "rgb10a2unorm": Format.A2B10G10R10_UNORM_PACK32,
        "rgb10a2uint": Format.A2B10G10R10_UINT_PACK32,
        "rg11b10ufloat": Format.B10G11R11_UFLOAT_PACK32,
        "rgb9e5ufloat": Format.E5B9G9R9_UFLOAT_PACK32,
        "depth32float-stencil8": Format.D32_SFLOAT_S8_UINT,
        "bc1-rgba-unorm-srgb": Format.BC1_RGBA_SRGB_BLOCK,
        "bc6h-rgb-float": Format.BC6H_SFLOAT_BLOCK,
        "etc2-rgb8a1unorm": Format.ETC2_R8G8B8A1_UNORM_BLOCK,
        "eac-rg11snorm": Format.EAC_R11G11_SNORM_BLOCK,
        "astc-12x10-unorm-srgb": Format.ASTC_12x10_SRGB_BLOCK,
    }
    for name, format in wanted.items():
        assert number_of_names(name, "Format", "format") == format, name
    assert all(name in Format.__members__ for name in _webgpu_formats().values())
    astc = [it for it in _webgpu_formats() if it.startswith("astc")]
    assert len(astc) == 28


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("rgba8unrom", "Format", "did you mean 'rgba8unorm'"),
        ("R8G8B8A8_UNROM", "Format", "did you mean 'R8G8B8A8_UNORM'"),
        ("depth24plus", "Format", "did you mean 'depth24plus-stencil8'"),
        ("VERTEX", "BufferUsage", "did you mean 'VERTEX_BUFFER'"),
        ("COPY_DST", "BufferUsage", "did you mean 'TRANSFER_DST'"),
        ("RENDER_ATTACHMENT", "ImageUsage", "did you mean 'COLOR_ATTACHMENT'"),
        ("MAPPED", "BufferUsage", "that is one of AllocationCreateFlags"),
        ("VERTEX_BUFER|TRANSFER_DST", "BufferUsage", "'VERTEX_BUFER'; did you mean 'VERTEX_BUFF"),
        ("", "BufferUsage", "no name ''$"),
        ("zzz" * 1000, "Format", "no name 'zzz"),
    ],
)
def test_a_wrong_name_names_the_right_one(text: str, kind: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^x: {kind} has no name .*") as caught:
        number_of_names(text, kind, "x")
    assert re.search(words, str(caught.value)), caught.value
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (["R8_UNORM"], "Format", "x must be an integer or a name of Format, not list"),
        (b"MAPPED", "AllocationCreateFlags", "not bytes"),
        ([1.5], "BufferUsage", "a float is neither"),
        ([True], "BufferUsage", "a bool is neither"),
        ([ImageUsage.SAMPLED], "BufferUsage", "an ImageUsage in it; it takes BufferUsage"),
        (1.5, "BufferUsage", "not float"),
    ],
)
def test_what_is_no_name(value: Any, kind: str, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        number_of_names(value, kind, "x")


def test_an_endless_list_ends() -> None:
    with pytest.raises(InvalidArgumentError, match="more than 256 items"):
        number_of_names(iter(lambda: "MAPPED", ""), "AllocationCreateFlags", "x")


def test_names_wherever_a_flag_is_taken(allocator: Allocator) -> None:
    buffer = allocator.create_buffer(
        4096,
        "VERTEX_BUFFER|TRANSFER_DST",
        usage="auto_prefer_host",
        flags=["MAPPED", "HOST_ACCESS_RANDOM"],
        required_flags="HOST_VISIBLE",
        preferred_flags="HOST_COHERENT",
        not_preferred_flags="LAZILY_ALLOCATED",
        create_flags=[],
        sharing_mode="exclusive",
    )
    assert buffer.usage == BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST
    assert isinstance(buffer.usage, BufferUsage)
    assert buffer.allocation.memory_properties & MemoryPropertyFlags.HOST_VISIBLE
    image = allocator.create_image(
        "rgba8unorm",
        (64, 32),
        ["SAMPLED", "TRANSFER_DST"],
        create_flags="MUTABLE_FORMAT",
        image_type="2D",
        samples="1",
        tiling="optimal",
        initial_layout="UNDEFINED",
        mip_levels=3,
        array_layers=2,
    )
    assert (image.format, image.usage) == (RGBA8, ImageUsage.SAMPLED | ImageUsage.TRANSFER_DST)
    assert (image.width, image.height, image.depth) == image.extent == (64, 32, 1)
    assert (image.mip_levels, image.array_layers) == (3, 2)
    assert image.samples is SampleCount.COUNT_1
    assert image.tiling is ImageTiling.OPTIMAL
    assert image.image_type is ImageType.TYPE_2D
    info = AllocationCreateInfo(usage="AUTO", flags="MAPPED|HOST_ACCESS_RANDOM")
    assert info.flags == AllocationCreateFlags.MAPPED | AllocationCreateFlags.HOST_ACCESS_RANDOM
    pool = allocator.create_pool(like=((4096, "STORAGE_BUFFER"), info))
    assert allocator.find_memory_type_index_for_buffer_info(4096, "STORAGE_BUFFER") >= 0
    allocator.find_memory_type_index(required_flags="HOST_VISIBLE")
    with BufferHeap(allocator, "VERTEX_BUFFER|TRANSFER_DST") as heap, heap.allocate(64) as piece:
        assert piece.buffer.usage == 0x82
    pool.close()
    allocator.destroy_many([buffer, image])


def test_names_of_a_simulated_device(make_simulated: Any) -> None:
    device = make_simulated(
        heaps=[(1 << 30, "DEVICE_LOCAL"), (1 << 30, [])],
        types=[(0, "device_local"), (1, "HOST_VISIBLE|HOST_COHERENT")],
        device_type="INTEGRATED_GPU",
    )
    assert device.properties.device_type is DeviceType.INTEGRATED_GPU
    types = device.memory_properties.memory_types
    assert [it.property_flags for it in types] == [0x1, 0x6]
    assert VirtualBlock(64).allocate(8, strategy="min_offset").offset == 0


def test_image_facts_end_with_the_image(simulated_allocator: Allocator) -> None:
    image = simulated_allocator.create_image(RGBA8, (8,), "SAMPLED")
    assert (image.width, image.height, image.depth) == (8, 1, 1)
    assert image.image_type is ImageType.TYPE_1D
    image.destroy()
    for name in ("width", "height", "depth", "mip_levels", "array_layers", "samples", "tiling"):
        with pytest.raises(vk_mem.UseAfterFreeError):
            getattr(image, name)


def test_flags_that_were_mixed_up(simulated_allocator: Allocator) -> None:
    create = simulated_allocator.create_image
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"create_flags": BufferCreateFlags.PROTECTED}, "it takes ImageCreateFlags"),
        ({"samples": ImageTiling.LINEAR}, "it takes SampleCount"),
        ({"tiling": SampleCount.COUNT_1}, "it takes ImageTiling"),
        ({"usage": ImageUsage.SAMPLED}, "what an image is used for is image_usage="),
    ]
    for keywords, words in wrong:
        with pytest.raises(TypeError, match=words):
            create(RGBA8, (8, 8), ImageUsage.SAMPLED, **keywords)
    with pytest.raises(TypeError, match="it takes BufferCreateFlags"):
        simulated_allocator.create_buffer(64, TRANSFER, create_flags=ImageCreateFlags.DISJOINT)


# ---- keywords ----


def test_everything_is_a_keyword_as_well() -> None:
    """Every positional argument of every call, but for the protocols of Python."""
    found = []
    for name in vk_mem.__all__:
        value = getattr(vk_mem, name)
        calls = {name: value} if callable(value) else {}
        if inspect.isclass(value):
            if issubclass(value, BaseException | enum.Enum):
                continue
            members = vars(value).items()
            calls = {f"{name}.{key}": it for key, it in members if not key.startswith("_")}
        for path, call in calls.items():
            call = getattr(call, "__func__", call)
            if not callable(call) or isinstance(call, type):
                continue
            parameters = list(inspect.signature(call).parameters.values())
            only = [it.name for it in parameters if it.kind is it.POSITIONAL_ONLY]
            found += [f"{path}({it})" for it in only if it not in ("self", "cls", "type")]
    assert found == []


def test_positional_arguments_as_keywords(allocator: Allocator) -> None:
    made: list[Any] = [
        allocator.create_buffer(size=4096, buffer_usage=TRANSFER),
        allocator.create_buffer(4096, buffer_usage=TRANSFER, name="b"),
        allocator.create_image(format=RGBA8, extent=(8, 8), image_usage=ImageUsage.SAMPLED),
        *allocator.create_buffers(sizes=[64, 128], buffer_usage=TRANSFER),
        *allocator.create_images(images=[(RGBA8, (8, 8), ImageUsage.SAMPLED)]),
        allocator.allocate_memory(size=4096, alignment=64),
        *allocator.allocate_memory_pages(size=4096, alignment=64, count=2),
    ]
    assert [made[0].size, made[1].name, made[3].size] == [4096, "b", 64]
    memory = allocator.allocate_memory(size=1 << 16, alignment=1 << 16)
    made += [
        allocator.create_aliasing_buffer(base=memory, size=64, buffer_usage=TRANSFER),
        memory,
    ]
    allocator.find_memory_type_index(allowed_type_bits=0xFFFFFFFF)
    allocator.find_memory_type_index_for_buffer_info(size=64, buffer_usage=TRANSFER)
    allocator.find_memory_type_index_for_image_info(
        format=RGBA8, extent=(8, 8), image_usage=ImageUsage.SAMPLED
    )
    allocator.destroy_many(resources=made)
    allocator.free_memory_pages(allocations=[])


def test_an_argument_that_comes_twice(simulated_allocator: Allocator) -> None:
    create: Any = simulated_allocator.create_buffer
    for call in (
        lambda: create(64, TRANSFER, size=64),
        lambda: create(64, TRANSFER, buffer_usage=TRANSFER),
    ):
        with pytest.raises(TypeError, match=r"got multiple values for argument '(size|buffer_us)"):
            call()
    with pytest.raises(TypeError, match="needs size= and buffer_usage="):
        create(size=64)
    with pytest.raises(TypeError, match="needs size= and buffer_usage="):
        create(size=None, buffer_usage=TRANSFER)
    with pytest.raises(InvalidArgumentError, match="instead of the positional"):
        simulated_allocator.create_buffers([64], infos=[])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="or infos"):
        simulated_allocator.create_buffers()  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("call", "keyword", "meant"),
    [
        ("create_buffer(64, 3, ", "label", "name"),
        ("create_buffer(64, 3, ", "Name", "name"),
        ("create_buffer(64, ", "buffer_usages", "buffer_usage"),
        ("create_buffer(buffer_usage=3, ", "nbytes", "size"),
        ("create_buffer(64, 3, ", "requiredFlags", "required_flags"),
        ("create_buffers([64], 3, ", "label", "name"),
        ("create_image(37, (8, 8), 4, ", "mipLevels", "mip_levels"),
        ("create_image(37, (8, 8), 4, ", "sample_count", "samples"),
        ("create_images([], ", "mip_level_count", "mip_levels"),
        ("create_pool(memory_type_index=0, ", "label", "name"),
        ("create_pool(", "memoryTypeIndex", "memory_type_index"),
        ("create_aliasing_buffer(b, 64, 3, ", "offset", "local_offset"),
        ("create_aliasing_image(b, 37, (8, 8), 4, ", "label", "name"),
        ("allocate_memory(64, ", "memory_properties", "required_flags"),
        ("allocate_memory_for_buffer(5, ", "label", "name"),
        ("find_memory_type_index(", "flag", "flags"),
    ],
)
def test_an_unknown_keyword_names_the_near_one(
    simulated_allocator: Allocator, call: str, keyword: str, meant: str
) -> None:
    name = call.partition("(")[0]
    words = rf"{name}\(\) got an unexpected keyword argument '{keyword}'; did you mean {meant}=\?$"
    with simulated_allocator.create_buffer(64, 3) as b, pytest.raises(TypeError, match=words):
        eval(f"a.{call}{keyword}=None)", {"a": simulated_allocator, "b": b})


def test_a_keyword_that_is_like_none(simulated_allocator: Allocator) -> None:
    create: Any = simulated_allocator.create_buffer
    for keyword in ("zzz", "\n", "x" * 100_000, "\ud800"):
        with pytest.raises(TypeError) as caught:
            create(64, TRANSFER, **{keyword: 1})
        text = str(caught.value)
        assert text.startswith("create_buffer() got an unexpected keyword argument '")
        assert text.isprintable() and len(text) < 200 and "mean" not in text


def test_every_call_with_keywords_knows_what_was_meant() -> None:
    """The stubs name the set of keywords of each call."""
    text = "".join(it.read_text() for it in sorted(STUBS.rglob("*.pyi")))
    tree = re.findall(r"def (\w+)\(([^)]*?Unpack\[(\w+)\])", text)
    wanted: dict[str, set[str]] = {}
    for name, _, keywords in tree:
        set_of = getattr(_typing, keywords).__annotations__
        wanted.setdefault("AllocationCreateInfo" if name == "__new__" else name, set()).update(
            set_of
        )
    destination = {"destination.create_buffer", "destination.create_image"}
    assert set(wanted) | {"BufferHeap"} | destination == set(_keywords._CALLS)
    for name, keywords in wanted.items():
        positional, known = _keywords._CALLS[name]
        assert keywords <= {*positional, *known.__annotations__}, name


def test_nothing_is_looked_up_for_numbers() -> None:
    """Names cost only those who write them: the tables are made when a text comes first."""
    done = run_python("""
        import sys, vk_mem
        from vk_mem.flags import names
        with vk_mem.Allocator(vk_mem.SimulatedDevice()) as allocator:
            allocator.create_buffer(64, 1, flags=0x400).destroy()
            allocator.create_buffer(size=64, buffer_usage=vk_mem.BufferUsage.TRANSFER_SRC).destroy()
            print(names._names.cache_info().currsize, "difflib" in sys.modules)
            allocator.create_buffer(64, "TRANSFER_SRC").destroy()
            print(names._names.cache_info().currsize, "difflib" in sys.modules)
    """)
    assert done.stdout.splitlines() == ["0 False", "1 False"], done


def test_a_struct_is_an_extent(simulated_allocator):
    vulkan = pytest.importorskip("vulkan")
    made = simulated_allocator.create_image("rgba8unorm", vulkan.VkExtent3D(64, 32, 1), "SAMPLED")
    assert (made.width, made.height, made.depth) == (64, 32, 1)
    flat = simulated_allocator.create_image("rgba8unorm", vulkan.VkExtent2D(8, 4), "SAMPLED")
    assert (flat.width, flat.height) == (8, 4)
    simulated_allocator.destroy_many([made, flat])


@pytest.mark.parametrize("whole", [-1, (1 << 64) - 1])
def test_the_whole_size_of_vulkan_is_the_rest(simulated_allocator, whole):
    with simulated_allocator.create_buffer(
        256, "TRANSFER_DST", flags="HOST_ACCESS_RANDOM"
    ) as buffer:
        buffer.write(bytes(range(256)))
        with buffer.map(16, whole) as view:
            assert bytes(view) == bytes(range(16, 256))
        assert buffer.read(250, whole) == bytes(range(250, 256))
        buffer.flush(0, whole)
        simulated_allocator.device.fill_buffer(buffer, 0, offset=128, size=whole)
        assert buffer.read() == bytes(range(128)) + bytes(128)
    with pytest.raises(vk_mem.InvalidArgumentError, match="size is -2"):
        buffer.map(0, -2)


class OddText(str):
    """A text that is equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("TRANSFER_DST")


def test_texts_that_were_read_before_are_read_as_the_first_time(allocator: Allocator) -> None:
    for _ in range(3):
        buffer = allocator.create_buffer(100, "vertex_buffer | TRANSFER_DST")
        assert buffer.usage == BufferUsage.VERTEX_BUFFER | BufferUsage.TRANSFER_DST
        with pytest.raises(InvalidArgumentError, match="VERTEX_BUFER"):
            allocator.create_buffer(100, "VERTEX_BUFER")
        # The same text is another number in another class.
        image = allocator.create_image("r8_unorm", (4, 4), "SAMPLED")
        assert image.usage == ImageUsage.SAMPLED
        with pytest.raises(InvalidArgumentError, match="SAMPLED"):
            allocator.create_buffer(100, "SAMPLED")
        with pytest.raises(InvalidArgumentError, match="what"):
            allocator.create_buffer(100, OddText("what"))
        buffer.destroy()
        image.destroy()


def test_more_texts_than_are_remembered(allocator: Allocator) -> None:
    for count in range(600):
        buffer = allocator.create_buffer(100, "TRANSFER_DST" + " " * count)
        assert buffer.usage == BufferUsage.TRANSFER_DST
        buffer.destroy()
