"""What the heaps, memory types and limits of a device mean for programs.

Each rule takes the facts of a device and returns a finding, or None where it does not apply.
"""

from __future__ import annotations

from vk_mem.doctor.device_facts import TIMED_SIZE, DeviceFacts
from vk_mem.doctor.finding import Finding, Weight
from vk_mem.flags import DeviceType, MemoryPropertyFlags
from vk_mem.text import known_size, percent, size_text

__all__ = [
    "block_size",
    "count_of_memory_objects",
    "fragmentation",
    "granularity",
    "held_memory",
    "host_memory_overcommitted",
    "largest_request",
    "memory_in_use",
    "moltenvk_blocks",
    "needs_flushes",
    "no_budget",
    "no_resizable_bar",
    "several_heaps",
    "silent_spill",
    "slow_driver_allocations",
    "small_window",
    "uncached_host_memory",
    "v3dv_pools",
]

MIB, GIB = 1 << 20, 1 << 30
LOCAL = MemoryPropertyFlags.DEVICE_LOCAL
VISIBLE = MemoryPropertyFlags.HOST_VISIBLE
COHERENT = MemoryPropertyFlags.HOST_COHERENT
CACHED = MemoryPropertyFlags.HOST_CACHED
BROADCOM, AMD, APPLE = 0x14E4, 0x1002, 0x106B
SLOW_ALLOCATION = 0.002
"""Seconds for 64 MiB from which a driver makes a frame of a game late."""


def _is_card(device: DeviceFacts) -> bool:
    """Returns whether the device is a card with memory of its own."""
    return not device.shares_memory


def _number(size: int) -> str:
    """Writes a size as Python code that people can read, in MiB where it is that large."""
    if size >= GIB and size % GIB == 0:
        return f"{size // GIB} << 30"
    return f"{size // MIB} << 20" if size >= MIB else str(size)


def largest_request(device: DeviceFacts) -> Finding | None:
    """Finds that one request cannot have all of the device's memory."""
    limit = known_size(device.limits["max_memory_allocation_size"])
    if limit is None or limit >= device.own_memory:
        return None
    return Finding(
        "largest-request",
        Weight.CARE,
        f"One buffer or image can have {size_text(limit)} at most",
        f"The device has {size_text(device.own_memory)}, but the driver refuses larger pieces "
        "(maxMemoryAllocationSize). Programs with one large tensor fail although there is room.",
        "Divide what is larger into several buffers. The size of vk-mem's blocks is no limit: what "
        "is larger than half a block gets memory of its own.",
        setting=f"allocator.create_buffers([{_number(min(limit, 64 * MIB))}] * 2, usage)",
    )


def silent_spill(device: DeviceFacts) -> Finding | None:
    """Finds that the driver may move memory to the host without a word."""
    if not _is_card(device):
        return None
    return Finding(
        "silent-spill",
        Weight.CARE,
        "When the card is full, its driver may move memory to the computer's without a word",
        "Programs were then seen to run at a third to a sixth of their speed; no call reports it.",
        "Ask for memory within the budget and on the card: vk-mem then raises an error instead. "
        "To make room by itself: evict_over_budget=True, and CAN_BECOME_LOST for what can go.",
        setting=(
            "allocator.create_buffer(size, usage, flags='WITHIN_BUDGET', "
            "required_flags='DEVICE_LOCAL')"
        ),
    )


def no_budget(device: DeviceFacts) -> Finding | None:
    """Finds that nobody knows what other programs use."""
    if device.has_extension("VK_EXT_memory_budget"):
        return None
    heap = next((it for it in device.heaps if it.device_local), device.heaps[0])
    guess = "" if heap.budget is None else f", here {size_text(heap.budget)}"
    return Finding(
        "no-budget",
        Weight.CARE,
        "The driver does not say how much memory is left (no VK_EXT_memory_budget)",
        f"vk-mem assumes that {percent(80, 100)} of each heap is free{guess}. What other programs "
        "use is not known, so a request may fail earlier, or make the system slow.",
        "Set a limit of your own if other programs use the device, too.",
        setting=_limits(device),
    )


def _limits(device: DeviceFacts) -> str:
    limits = ", ".join(_number(it.size // 2) for it in device.heaps)
    return f"vk_mem.Allocator(device, heap_size_limits=[{limits}])"


def memory_in_use(device: DeviceFacts) -> Finding | None:
    """Finds that other programs hold much of the device's memory now."""
    for heap in device.heaps:
        if not heap.device_local or heap.budget is None:
            continue
        left = max(heap.budget - (known_size(heap.usage) or 0), 0)
        if left < heap.size // 2:
            return Finding(
                "memory-in-use",
                Weight.CARE,
                f"Of {size_text(heap.size)}, {size_text(left)} can be used now",
                "Other programs hold the rest, or the driver keeps it.",
                "Close what is not needed, or look at the budget before large requests.",
                setting="allocator.heap_budgets()",
            )
    return None


def host_memory_overcommitted(device: DeviceFacts) -> Finding | None:
    """Finds that AMD's drivers grant more host memory than they can use."""
    heaps = [it for it in device.heaps if not it.device_local]
    if device.vendor_id != AMD or not heaps:
        return None
    return Finding(
        "host-memory-overcommitted",
        Weight.CARE,
        "The driver may grant more memory of the computer than it can use later",
        "AMD's driver in Mesa does not refuse the request, but the work that uses the memory: the "
        "device is lost, and the program with it.",
        "Keep what the host shares with the card below a limit, or ask within the budget.",
        setting=_limits(device),
    )


def no_resizable_bar(device: DeviceFacts) -> Finding | None:
    """Finds that the processor cannot write into the card's memory at all."""
    if not _is_card(device) or device.has_type(LOCAL | VISIBLE):
        return None
    return Finding(
        "no-resizable-bar",
        Weight.NOTE,
        "The processor cannot write into the card's memory directly",
        "Each upload takes a copy more. Programs that map the card's memory fail here.",
        "Nothing is needed: upload and download use a copy of the device by themselves. If the "
        "firmware (BIOS) of the computer has a switch for Resizable BAR, it saves the copy.",
        setting="allocator.create_buffer(buffer_usage=usage, data=data)",
    )


def small_window(device: DeviceFacts) -> Finding | None:
    """Finds that the processor reaches a small part of the card's memory."""
    if not _is_card(device):
        return None
    heaps = {it.heap for it in device.types if it.has(LOCAL | VISIBLE)}
    largest = max((device.heaps[it].size for it in heaps), default=0)
    if not largest or largest >= device.own_memory // 2:
        return None
    return Finding(
        "small-window",
        Weight.CARE,
        f"The processor reaches {size_text(largest)} of the card's "
        f"{size_text(device.own_memory)} directly",
        "This window is small and all programs share it. Programs that put everything into memory "
        "that is both fast and writable run out of it at once.",
        "Turn on Resizable BAR (or Smart Access Memory) in the firmware (BIOS) of the computer. "
        "vk-mem puts only what the host writes often there, and falls back when it is full.",
        setting="allocator.create_buffer(buffer_usage=usage, data=data)",
    )


def several_heaps(device: DeviceFacts) -> Finding | None:
    """Finds that a device that shares the computer's memory shows it as several heaps."""
    if device.kind != DeviceType.INTEGRATED_GPU.name or len(device.heaps) < 2:
        return None
    smallest = min(device.heaps, key=lambda it: it.size)
    return Finding(
        "several-heaps",
        Weight.CARE,
        f"The computer's memory shows as {len(device.heaps)} heaps, the smallest of "
        f"{size_text(smallest.size)}",
        "Programs that take the first heap that is fast fill the small one and fail, while there "
        "is room in the other: on such a machine both are the same memory.",
        "Do not insist on a memory type. Without required_flags, vk-mem goes on to the next one.",
        setting="allocator.create_buffer(size, usage, preferred_flags='DEVICE_LOCAL')",
    )


def count_of_memory_objects(device: DeviceFacts) -> Finding | None:
    """Finds that few memory objects can exist at a time."""
    limit = device.limits["max_memory_allocation_count"]
    if limit > 16384:
        return None
    return Finding(
        "count-of-memory-objects",
        Weight.NOTE,
        f"The driver allows {limit:,} memory objects at a time",
        "Programs that take one for each buffer fail after that many. vk-mem puts many buffers "
        "into one, and counts. Some drivers allow more than they say.",
        "Ask for memory of their own (DEDICATED_MEMORY) for few resources. If the driver is known "
        "to allow more, let it decide.",
        setting="vk_mem.Allocator(device, enforce_allocation_count=False)",
    )


def block_size(device: DeviceFacts) -> Finding | None:
    """Finds that a program with much memory may want larger blocks."""
    if not _is_card(device) or device.own_memory < 8 * GIB - GIB // 2:
        return None
    limit = known_size(device.limits["max_memory_allocation_size"]) or 4 * GIB
    block = max(min(4 * GIB, limit, device.own_memory // 8) // MIB * MIB, MIB)
    return Finding(
        "block-size",
        Weight.NOTE,
        "Programs that fill the card may run faster with larger blocks",
        "With llama.cpp and long contexts, blocks of 1 GiB in place of 4 GiB cost 78 % of the "
        "speed on some cards. vk-mem takes blocks of 256 MiB unless told otherwise.",
        "Measure your program with both.",
        setting=f"vk_mem.Allocator(device, preferred_block_size={_number(block)})",
    )


def held_memory(device: DeviceFacts) -> Finding | None:
    """Finds that memory kept for later is missing elsewhere."""
    if _is_card(device) and device.own_memory > 4 * GIB:
        return None
    whose = "all programs of the computer" if device.shares_memory else "other programs"
    return Finding(
        "held-memory",
        Weight.NOTE,
        f"Memory that a program keeps is missing for {whose}",
        "An allocator keeps an empty block of each memory type for the next request, and gives "
        "blocks back when all in them is freed. Programs were seen to hold far more than they use.",
        "Give empty blocks back at once, or call allocator.trim() after a peak.",
        setting="vk_mem.Allocator(device, preferred_block_size=16 << 20, empty_block_retention=0)",
    )


def fragmentation(device: DeviceFacts) -> Finding | None:
    """Finds that the device is so small that holes between allocations matter."""
    if device.own_memory > 4 * GIB:
        return None
    return Finding(
        "fragmentation",
        Weight.NOTE,
        f"The device has {size_text(device.own_memory)}: holes between buffers can use it up",
        "After hours of loading and freeing, free memory lies in pieces that are too small. "
        "Programs then run out with much of it free.",
        "Let vk-mem move buffers together, before it gives up on a request.",
        setting="vk_mem.Allocator(device, defragment_when_full=True)",
    )


def slow_driver_allocations(device: DeviceFacts) -> Finding | None:
    """Finds that the driver needs long for new memory, as far as that was timed."""
    if device.seconds:
        longest = max(device.seconds.values())
        if longest < SLOW_ALLOCATION:
            return None
        what = f"The driver needs {longest * 1000:.0f} ms for {size_text(TIMED_SIZE)} of new memory"
    elif device.simulated and _is_card(device):
        what = "Drivers of cards like this one need milliseconds for new memory"
    else:
        return None
    return Finding(
        "slow-driver-allocations",
        Weight.CARE,
        what,
        "A frame of a game has 16 ms. A program that takes memory in the middle of one stutters.",
        "Let a thread take the next block before it is needed.",
        setting="vk_mem.Allocator(device, prefetch=True)",
    )


def needs_flushes(device: DeviceFacts) -> Finding | None:
    """Finds that the device does not see what the host writes until it is told."""
    if all(it.has(COHERENT) for it in device.types if it.has(VISIBLE)):
        return None
    atom = device.limits["non_coherent_atom_size"]
    return Finding(
        "needs-flushes",
        Weight.CARE,
        "The device may not see what the host writes until it is told (memory is not coherent)",
        "Programs that were written on another card show old data here, now and then. What has to "
        f"be told comes in pieces of {size_text(atom)}.",
        "write, upload and map() tell it by themselves. After writing through mapped, call "
        "flush(); or ask for coherent memory.",
        setting=(
            "allocator.create_buffer(size, usage, flags='HOST_ACCESS_RANDOM', "
            "required_flags='HOST_COHERENT')"
        ),
    )


def uncached_host_memory(device: DeviceFacts) -> Finding | None:
    """Finds that the host reads slowly from each memory that it can map."""
    if device.has_type(VISIBLE | CACHED):
        return None
    return Finding(
        "uncached-host-memory",
        Weight.CARE,
        "Reading results back is slow: no memory here is cached for the processor",
        "Each access goes to main memory; a loop over single values takes many times as long.",
        "Read in one piece into an array of your own (read_into, download), and work on that.",
        setting="allocator.create_buffer(size, usage, flags='HOST_ACCESS_RANDOM')",
    )


def granularity(device: DeviceFacts) -> Finding | None:
    """Finds that buffers and images must keep a distance."""
    distance = device.limits["buffer_image_granularity"]
    if distance < 4096:
        return None
    return Finding(
        "granularity",
        Weight.NOTE,
        f"Buffers and images must not share {size_text(distance)} of memory",
        "Between a buffer and an image up to that much is lost (bufferImageGranularity). Programs "
        "that mix many small ones waste memory.",
        "Put images into a pool of their own.",
        setting=(
            "allocator.create_pool(memory_type_index=0, ignore_buffer_image_granularity=True)"
        ),
    )


def moltenvk_blocks(device: DeviceFacts) -> Finding | None:
    """Finds MoltenVK, where shared blocks were seen to hang."""
    if device.vendor_id != APPLE and "VK_KHR_portability_subset" not in device.extensions:
        return None
    return Finding(
        "moltenvk-blocks",
        Weight.NOTE,
        "Vulkan runs on top of Apple's Metal here (MoltenVK)",
        "A program that opened and closed devices again and again hung with buffers in shared "
        "blocks, and did not with memory of their own.",
        "If a program hangs that opens several devices, give its buffers memory of their own.",
        setting="allocator.create_buffer(size, usage, flags='DEDICATED_MEMORY')",
    )


def v3dv_pools(device: DeviceFacts) -> Finding | None:
    """Finds a Raspberry Pi, where large pools could not be created."""
    if device.vendor_id != BROADCOM:
        return None
    return Finding(
        "v3dv-pools",
        Weight.NOTE,
        "Large blocks may be refused on a Raspberry Pi",
        "An engine that asked for large pools of memory could not create them and did not start.",
        "Nothing is needed by default: vk-mem halves a block that is refused. Give pools of your "
        "own small blocks.",
        setting="vk_mem.Allocator(device, preferred_block_size=16 << 20)",
    )
