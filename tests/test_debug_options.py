"""`vk_mem.Debug`: what it takes, `VK_MEM_DEBUG`, and where both apply."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import gc
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import IMAGE_TRANSFER, RGBA8, TRANSFER, WRITE, run_python

from vk_mem import (
    Allocator,
    BufferHeap,
    CorruptionWarning,
    Debug,
    Device,
    FeatureNotPresentError,
    ImageTiling,
    InvalidArgumentError,
    MemoryMapError,
    OutOfDeviceMemoryError,
    SimulatedDevice,
    VirtualBlock,
)

MIB = 1 << 20
PROFILES = SimulatedDevice.profile_names()


def test_all_is_off_by_default() -> None:
    it = Debug()
    values = {field.name: getattr(it, field.name) for field in dataclasses.fields(it)}
    assert values == {
        "fill": None,
        "fill_on_free": None,
        "margin": 0,
        "detect_corruption": False,
        "quarantine": None,
        "check": "free",
        "min_granularity": None,
        "always_dedicated": False,
        "poison_unmapped": False,
        "strict_host_access": False,
    }
    assert repr(it) == "Debug()"


SOME = [
    Debug(),
    Debug(fill="nan", fill_on_free=0, margin=32),
    Debug(detect_corruption=True, quarantine="3 frames", check="frame"),
    Debug(quarantine=64 * MIB, min_granularity=65536, always_dedicated=True),
    Debug(poison_unmapped=True, strict_host_access=True, check="call"),
]


@pytest.mark.parametrize("it", SOME, ids=str)
def test_it_is_a_value(it: Debug) -> None:
    for same in (copy.copy(it), copy.deepcopy(it), pickle.loads(pickle.dumps(it))):
        assert same == it and hash(same) == hash(it) and repr(same) == repr(it)
    assert eval(repr(it), {"Debug": Debug}) == it
    assert sum(it == other for other in SOME) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        it.margin = 4  # type: ignore[misc]
    assert dataclasses.replace(it, margin=48).margin == 48


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("64M", 64 * MIB),
        ("64MiB", 64 * MIB),
        ("64MB", 64 * MIB),
        ("64 MiB", 64 * MIB),
        ("64_M", 64 * MIB),
        ("4096", 4096),
        ("4096B", 4096),
        ("2G", 2048 * MIB),
        (1, 1),
        (np.uint64(77), 77),
        ("1 frame", "1 frame"),
        ("3frames", "3 frames"),
        ("3_frames", "3 frames"),
    ],
)
def test_quarantines_are_bytes_or_frames(given: Any, kept: int | str) -> None:
    it = Debug(quarantine=given)
    assert it.quarantine == kept and it == Debug(quarantine=kept)


def test_corruption_is_detected_with_a_margin() -> None:
    assert Debug(detect_corruption=True) == Debug(detect_corruption=True, margin=16)
    assert Debug(detect_corruption=True, margin=64).margin == 64


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"fill": "nann"}, InvalidArgumentError, "fill is 'nann', not one of 'pattern', 'zero', 'nan'"),
    ({"fill": "zeros"}, InvalidArgumentError, "a byte from 0 to 255; did you mean 'zero'"),
    ({"fill": 256}, InvalidArgumentError, "fill is 256; it is a byte from 0 to 255, 'pattern'"),
    ({"fill": -1}, InvalidArgumentError, "fill is -1; it is a byte from 0 to 255, 'pattern'"),
    ({"fill": True}, TypeError, "fill must be a text, a byte from 0 to 255 or None, not bool"),
    ({"fill_on_free": 1.5}, TypeError, "fill_on_free must be a text.*not float"),
    ({"margin": -4}, InvalidArgumentError, "margin is -4; it is a multiple of 4, at most 16 MiB"),
    ({"margin": True}, TypeError, "margin must be an integer, not bool"),
    ({"margin": "16"}, TypeError, "margin must be an integer, not str"),
    ({"margin": 17 * MIB}, InvalidArgumentError, "margin is 17825792; it is a multiple of 4, at"),
    ({"margin": 3}, InvalidArgumentError, "margin is 3; it is a multiple of 4, at most 16 MiB"),
    (
        {"margins": 16},
        TypeError,
        r"Debug\(\) got an unexpected .*'margins'; did you mean margin=\?",
    ),
    ({"foo": 16}, TypeError, "'foo'; it has fill, fill_on_free, margin"),
    (
        {"quarantine": -1},
        InvalidArgumentError,
        "quarantine is -1; it is a number of bytes from 1 on",
    ),
    ({"margin": 1 << 200}, InvalidArgumentError, "margin is a huge number"),
    ({"detect_corruption": 1}, TypeError, "detect_corruption must be a bool, not int"),
    ({"quarantine": 0}, InvalidArgumentError, "quarantine is 0; None is for none"),
    ({"quarantine": "0 frames"}, InvalidArgumentError, "quarantine is '0 frames'; None"),
    ({"quarantine": "3 days"}, InvalidArgumentError, "quarantine is '3 days'; it is a number of"),
    ({"quarantine": False}, TypeError, "quarantine must be .*, not bool"),
    ({"quarantine": 1.5}, TypeError, "quarantine must be .*, not float"),
    ({"check": "frames"}, InvalidArgumentError, "check is 'frames'.*did you mean 'frame'"),
    ({"check": None}, TypeError, "check must be one of 'free', 'frame', 'call', not NoneType"),
    ({"min_granularity": 3}, InvalidArgumentError, "min_granularity is 3; it is a power of two"),
    ({"min_granularity": 0}, InvalidArgumentError, "min_granularity is 0; it is a power of two"),
    ({"min_granularity": 2 << 30}, InvalidArgumentError, "of at most 1073741824 bytes"),
    ({"always_dedicated": None}, TypeError, "always_dedicated must be a bool, not NoneType"),
]


@pytest.mark.parametrize(("wrong", "error", "text"), WRONG, ids=[it[2] for it in WRONG])
def test_wrong_values_get_one_line(
    wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        Debug(**wrong)
    assert "\n" not in str(caught.value)


# ---- the environment ----


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("fill", Debug(fill="pattern")),
        ("fill=zero,fill_on_free=0xAB", Debug(fill="zero", fill_on_free=0xAB)),
        ("margin=32", Debug(margin=32)),
        (" corruption , check = frame ", Debug(detect_corruption=True, check="frame")),
        ("detect_corruption=1,margin=1K", Debug(detect_corruption=True, margin=1024)),
        ("quarantine=64M", Debug(quarantine=64 * MIB)),
        ("quarantine=2 MiB", Debug(quarantine=2 * MIB)),
        (
            "all,quarantine=none,fill=none,fill_on_free=none",
            Debug(detect_corruption=True),
        ),
        ("all,quarantine=0,corruption=0", Debug(fill="pattern", fill_on_free="pattern")),
        ("sites", None),
        ("quarantine=2frames,", Debug(quarantine="2 frames")),
        (
            "min_granularity=64K,always_dedicated",
            Debug(min_granularity=65536, always_dedicated=True),
        ),
        ("strict_host_access,always_dedicated=0", Debug(strict_host_access=True)),
        (
            "all",
            Debug(fill="pattern", fill_on_free="pattern", detect_corruption=True, quarantine="64M"),
        ),
        (
            "1,fill=nan,quarantine=1M",
            Debug(fill="nan", fill_on_free="pattern", detect_corruption=True, quarantine=MIB),
        ),
        ("", None),
        ("0", None),
    ],
)
def test_words_of_the_environment(
    simulated: SimulatedDevice, monkeypatch: pytest.MonkeyPatch, text: str, means: Debug | None
) -> None:
    monkeypatch.setenv("VK_MEM_DEBUG", text)
    with Allocator(simulated) as allocator:
        assert allocator.debug == means
    with Allocator(simulated, debug=Debug(margin=4)) as allocator:
        assert allocator.debug == Debug(margin=4)
    with Allocator(simulated, debug=Debug()) as allocator:
        assert allocator.debug is None
    monkeypatch.delenv("VK_MEM_DEBUG")
    with Allocator(simulated) as allocator:
        assert allocator.debug is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fil", "'fil' is not known; did you mean fill"),
        ("everything", "'everything' is not known; there are fill, fill_on_free, margin"),
        ("margin", "margin needs a value as in margin=16"),
        ("margin=x", "margin is 'x': it needs a value as in margin=16"),
        ("margin=", "margin needs a value"),
        ("margin=6", "margin is 6; it is a multiple of 4, at most"),
        ("fill=true", "fill is 'true', not one of"),
        ("fill,fill=zero", "fill is given twice"),
        ("corruption,detect_corruption", "detect_corruption is given twice"),
        ("corruption=yes", "detect_corruption is 'yes': it is 1, or 0"),
        ("quarantine=lots", "quarantine is 'lots'; it is a number of bytes"),
        ("check=never", "check is 'never', not one of"),
        ("all=1", "'all=1' is not known"),
        ("sites=many", "track_call_sites is 'many': it is a number of frames, or 0"),
        ("sites,track_call_sites", "track_call_sites is given twice"),
        ("margin=none", "margin is 'none': it needs a value"),
    ],
)
def test_a_wrong_word_names_the_variable(
    simulated: SimulatedDevice, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setenv("VK_MEM_DEBUG", text)
    with pytest.raises(InvalidArgumentError, match=f"^VK_MEM_DEBUG: {why}") as caught:
        Allocator(simulated)
    assert "\n" not in str(caught.value)
    Allocator(simulated, debug=Debug()).close()


def test_a_program_that_nobody_changes() -> None:
    code = """
        import os
        os.environ["VK_MEM_DEBUG"] = "margin=16,corruption,quarantine=64M"
        import vk_mem
        allocator = vk_mem.Allocator(vk_mem.SimulatedDevice("discrete-8gib"))
        allocator.create_buffer(64, "TRANSFER_SRC").destroy()
        total = allocator.calculate_statistics().total
        print(allocator.debug, total.margin_count, total.quarantined_count)
        allocator.close()
    """
    done = run_python(code)
    what = "Debug(margin=16, detect_corruption=True, quarantine=67108864)"
    assert (done.stdout.strip(), done.stderr) == (f"{what} 2 1", "")


@pytest.mark.parametrize(
    ("text", "tracks"),
    [
        ("sites", True),
        ("all", True),
        ("all,sites=0", False),
        ("margin=16", False),
        ("sites=2", True),
    ],
)
def test_call_sites_of_the_environment(
    simulated: SimulatedDevice, monkeypatch: pytest.MonkeyPatch, text: str, tracks: bool
) -> None:
    monkeypatch.setenv("VK_MEM_DEBUG", text)
    for given, means in ((None, tracks), (False, False), (True, True)):
        with (
            Allocator(simulated, track_call_sites=given) as allocator,
            allocator.create_buffer(64, "TRANSFER_SRC"),
        ):
            assert (allocator.leaks()[0].call_site is not None) == means


# ---- where it applies ----


@pytest.mark.parametrize("wrong", [1, True, "all", {"margin": 16}, [Debug()], Debug])
def test_only_a_debug_is_taken(simulated: SimulatedDevice, wrong: Any) -> None:
    makers: list[Callable[[Allocator], object]] = [
        lambda allocator: Allocator(simulated, debug=wrong),
        lambda allocator: allocator.create_pool(memory_type_index=0, debug=wrong),
        lambda allocator: VirtualBlock(100, debug=wrong),
        lambda allocator: BufferHeap(allocator, TRANSFER, debug=wrong),
    ]
    with Allocator(simulated) as allocator:
        for make in makers:
            kind = type(wrong).__name__
            with pytest.raises(TypeError, match=f"^debug must be a vk_mem.Debug, not {kind}$"):
                make(allocator)


@pytest.mark.parametrize("debug", [it for it in SOME if not it.poison_unmapped], ids=str)
def test_what_is_given_is_told(simulated: SimulatedDevice, debug: Debug) -> None:
    with Allocator(simulated, debug=debug) as allocator:
        assert allocator.debug == (None if debug == Debug() else debug)
        plain = allocator.create_pool(memory_type_index=0)
        assert plain.debug is None
        off = allocator.create_pool(memory_type_index=0, debug=Debug())
        assert off.debug == Debug()
        other = allocator.create_pool(memory_type_index=0, debug=Debug(margin=128))
        assert other.debug == Debug(margin=128)


def test_a_pool_has_its_own(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, debug=Debug(margin=16)) as allocator:
        margins = {}
        for margin in (None, 0, 4, 1024):
            debug = None if margin is None else Debug(margin=margin)
            pool = allocator.create_pool(memory_type_index=0, block_size=MIB, debug=debug)
            with allocator.create_buffer(256, TRANSFER, pool=pool):
                margins[margin] = pool.statistics().margin_count
            pool.close()
        assert margins == {None: 2, 0: 0, 4: 2, 1024: 2}
        for switch in ("poison_unmapped", "strict_host_access"):
            with pytest.raises(InvalidArgumentError, match=f"{switch} is for a whole allocator"):
                allocator.create_pool(memory_type_index=0, debug=Debug(**{switch: True}))


def test_margins_of_a_virtual_block() -> None:
    block = VirtualBlock(100, debug=Debug(margin=4))
    assert block.margin == 4 and VirtualBlock(100).margin == 0
    first, second = block.allocate(10), block.allocate(10, 8)
    assert first.offset >= 4 and second.offset % 8 == 0
    ends = sorted((it.offset, it.offset + it.size) for it in (first, second))
    assert ends[1][0] - ends[0][1] >= 8
    counted = block.statistics()
    assert (counted.margin_count, counted.allocation_bytes) == (4, 20)
    whole = counted.margin_bytes + counted.allocation_bytes + counted.unused_range_bytes
    assert whole == 100 and "in margins" in str(counted)
    first.free()
    second.free()
    block.allocate(92).free()
    why = "no room for 93 and margins of 4 before and behind it in the virtual block: 0 of 100 are"
    with pytest.raises(OutOfDeviceMemoryError, match=why):
        block.allocate(93)
    block.validate()
    for name, value in (("fill", "zero"), ("quarantine", 5), ("detect_corruption", True)):
        what = f"{name} is not for a VirtualBlock, whose debug= has margin only"
        with pytest.raises(InvalidArgumentError, match=what):
            VirtualBlock(100, debug=Debug(**{name: value}))


def test_the_environment_does_not_change_virtual_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_MEM_DEBUG", "all")
    assert VirtualBlock(100).margin == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_least_granularity(make_simulated: Any, profile: str) -> None:
    device = make_simulated(profile)
    page = 1 << 18
    own = device.properties.buffer_image_granularity
    for least, apart in ((None, own), (page, max(own, page)), (1, own)):
        debug = Debug(min_granularity=least)
        with Allocator(device, debug=debug) as allocator:
            image = allocator.create_image(
                RGBA8, (16, 16), IMAGE_TRANSFER, required_flags="DEVICE_LOCAL"
            )
            index = image.allocation.memory_type_index
            pool = allocator.create_pool(memory_type_index=index, block_size=16 * MIB, debug=None)
            image.destroy()
            image = allocator.create_image(RGBA8, (16, 16), IMAGE_TRANSFER, pool=pool)
            try:
                buffer = allocator.create_buffer(4096, TRANSFER, pool=pool)
            except FeatureNotPresentError:
                pytest.skip("buffers and images have no memory type in common")
            places = [(it.allocation.offset, it.allocation.size) for it in (image, buffer)]
            assert image.allocation.device_memory == buffer.allocation.device_memory
            (start, size), (other, _) = sorted(places)
            assert (start + size - 1) // apart != other // apart
            if least == page:
                assert other // page >= 1
            image.destroy()
            buffer.destroy()
            pool.close()


@pytest.mark.parametrize("profile", PROFILES)
def test_always_dedicated(make_simulated: Any, profile: str) -> None:
    with Allocator(make_simulated(profile), debug=Debug(always_dedicated=True)) as allocator:
        made: list[Any] = [allocator.create_buffer(64, TRANSFER) for _ in range(3)]
        made += [allocator.create_image(RGBA8, (4, 4), IMAGE_TRANSFER)]
        assert all(it.allocation.is_dedicated for it in made)
        assert len({it.allocation.device_memory for it in made}) == 4
        index = made[0].allocation.memory_type_index
        pool = allocator.create_pool(memory_type_index=index, block_size=MIB)
        with allocator.create_buffer(64, TRANSFER, pool=pool) as shared:
            assert not shared.allocation.is_dedicated
        for it in made:
            it.destroy()


def test_the_host_is_refused(simulated: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Debug(strict_host_access=True)
    with Allocator(simulated, debug=strict) as allocator:
        assert allocator.strict_host_access
        info: Any = {"required_flags": "HOST_VISIBLE", "flags": WRITE}
        with allocator.create_buffer(64, TRANSFER, **info) as buffer:
            buffer.write(b"x")
            with pytest.raises(MemoryMapError, match="strict_host_access is on"):
                buffer.read()
    with Allocator(simulated, debug=strict, strict_host_access=False) as allocator:
        assert not allocator.strict_host_access
    monkeypatch.setenv("VK_MEM_STRICT", "1")
    with Allocator(simulated, debug=Debug()) as allocator:
        assert allocator.strict_host_access


def test_unmapped_memory_is_poisoned(simulated: SimulatedDevice) -> None:
    with (
        Allocator(simulated, debug=Debug(poison_unmapped=True)) as allocator,
        allocator.create_buffer(64, TRANSFER, flags="HOST_ACCESS_RANDOM") as buffer,
    ):
        mapping = buffer.map()
        with memoryview(mapping) as view:
            view[:4] = b"abcd"
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            gc.collect()
        mapping.close()
        assert ctypes.string_at(address, 4) == b"\xdd" * 4
        assert buffer.read(0, 4) == b"abcd"


def test_a_real_device_cannot_be_poisoned(
    real_device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FeatureNotPresentError, match="poison_unmapped needs a SimulatedDevice"):
        Allocator(real_device, debug=Debug(poison_unmapped=True))
    monkeypatch.setenv("VK_MEM_DEBUG", "poison_unmapped")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            with Allocator(real_device) as allocator:
                assert allocator.debug is None
    # Once in a process.
    assert [it.category for it in told] == [CorruptionWarning]
    assert "poison_unmapped needs a SimulatedDevice" in str(told[0].message)


def test_aliases_have_no_margin_of_their_own(simulated: SimulatedDevice) -> None:
    with Allocator(simulated, debug=Debug(margin=64)) as allocator:
        base = allocator.allocate_memory(4096, flags="CAN_ALIAS")
        alias = allocator.create_aliasing_buffer(base, 256, TRANSFER)
        total = allocator.calculate_statistics().total
        assert (total.margin_count, total.allocation_count) == (2, 1)
        alias.destroy()
        base.free()


def test_linear_images_and_buffers_share_a_page(simulated: SimulatedDevice) -> None:
    """What the granularity does not separate is not separated by a larger one either."""
    with Allocator(simulated, debug=Debug(min_granularity=65536)) as allocator:
        pool = allocator.create_pool(memory_type_index=0, block_size=MIB)
        made = [
            allocator.create_buffer(256, TRANSFER, pool=pool),
            allocator.create_image(
                RGBA8, (4, 4), IMAGE_TRANSFER, tiling=ImageTiling.LINEAR, pool=pool
            ),
        ]
        assert {it.allocation.offset // 65536 for it in made} == {0}
        for it in made:
            it.destroy()
        pool.close()
