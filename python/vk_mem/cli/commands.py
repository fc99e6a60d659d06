"""Declares the commands with their options, except those in files of their own."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import vk_mem
from vk_mem.cli.devices import (
    flag_names,
    kind_of,
    open_device,
    short_flag_names,
    size_text,
    version_text,
)
from vk_mem.cli.doctor import DOCTOR_EXIT_CODES, doctor
from vk_mem.cli.dumps import stats, view
from vk_mem.cli.output import (
    EXIT_CODES,
    Json,
    fail,
    out,
    plain,
    print_json,
    show,
    table,
    working,
)
from vk_mem.cli.top import top
from vk_mem.cli.traces import replay, trace_app
from vk_mem.text import counted

if TYPE_CHECKING:
    from vk_mem.cli.demo import Moved, Placed

HELP = "Vulkan memory: what there is, whether it works, and what a program does with it."

app = typer.Typer(
    name="vk-mem",
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PROFILES = vk_mem.SimulatedDevice.profile_names()

DeviceName = Annotated[
    str | None,
    typer.Option("--device", help="Use the device whose name contains this; by default the best."),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--simulated",
        help="Use a simulated device: " + ", ".join(PROFILES),
    ),
]
Validation = Annotated[
    bool, typer.Option("--validation", help="Turn on the Khronos validation layer.")
]


def version(asked: bool) -> None:
    """Prints the version and exits, for `--version`."""
    if asked:
        out.print(vk_mem.__version__)
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of the command itself."""


app.command(epilog=DOCTOR_EXIT_CODES)(doctor)
for command in (view, stats, top, replay):
    app.command(epilog=EXIT_CODES)(command)
app.add_typer(trace_app, name="trace", epilog=EXIT_CODES)


@app.command(epilog=EXIT_CODES)
def info(device: DeviceName = None, simulated: Profile = None, json: Json = False) -> None:
    """Show devices, heaps, memory types, limits, and what the allocator will use."""
    try:
        if simulated is None and device is None:
            present = vk_mem.list_physical_devices()
            chosen = vk_mem.Device.open()
        else:
            present = []
            chosen, _ = open_device(device, simulated, validation=False)
    except vk_mem.VkMemError as error:
        raise fail(str(error)) from None
    if json:
        print_json(info_json(chosen, present))
        return
    if present:
        out.print(device_table(present))
        out.print()
    properties = chosen.properties
    title = plain(properties.device_name, "bold")
    out.print(title.append_text(plain(f" ({kind_of(chosen)}), {properties.driver}")))
    show(heap_table(chosen), type_table(chosen), limit_table(chosen))
    out.print(f"\nVulkan {version_text(chosen.api_version)}, extensions in use:")
    out.print(", ".join(chosen.extensions) or "none", soft_wrap=True)


def about(properties: vk_mem.DeviceProperties) -> dict[str, Any]:
    return {
        "name": properties.device_name,
        "type": properties.device_type.name,
        "driver": properties.driver,
        "api_version": properties.api_version,
    }


def info_json(device: vk_mem.Device, present: list[vk_mem.PhysicalDevice]) -> dict[str, Any]:
    with vk_mem.Allocator(device) as allocator:
        budgets = allocator.heap_budgets()
        blocks = allocator.preferred_block_sizes
    memory, limits, uses = device.memory_properties, device.properties, chosen_types(device)
    return {
        "devices": [about(it.properties) for it in present],
        "device": {**about(limits), "kind": kind_of(device), "extensions": device.extensions},
        "heaps": [
            {
                "size": heap.size,
                "flags": [flag.name for flag in heap.flags],
                "budget": budget.budget,
                "usage": budget.usage,
            }
            for heap, budget in zip(memory.memory_heaps, budgets, strict=True)
        ],
        "memory_types": [
            {
                "heap": it.heap_index,
                "flags": [flag.name for flag in it.property_flags],
                "preferred_block_size": block,
                "chosen_for": uses.get(index, []),
            }
            for index, (it, block) in enumerate(zip(memory.memory_types, blocks, strict=True))
        ],
        "limits": {
            name: getattr(limits, name)
            for name in (
                "max_memory_allocation_count",
                "max_memory_allocation_size",
                "buffer_image_granularity",
                "non_coherent_atom_size",
            )
        },
    }


def device_table(present: list[vk_mem.PhysicalDevice]) -> Table:
    rows = table("Devices", "", "Device", "Kind", "Vulkan", "Driver")
    for index, device in enumerate(present):
        properties = device.properties
        rows.add_row(
            str(index),
            plain(properties.device_name),
            properties.device_type.name,
            version_text(properties.api_version),
            plain(properties.driver),
        )
    return rows


def heap_table(device: vk_mem.Device) -> Table:
    columns = ("Heap", "Size", "Device local", "Budget", "Block")
    rows = table("Heaps", *columns, right=(1, 2, 3, 4))
    with vk_mem.Allocator(device) as allocator:
        budgets = allocator.heap_budgets()
        blocks = allocator.preferred_block_sizes
    types = device.memory_properties.memory_types
    for index, heap in enumerate(device.memory_properties.memory_heaps):
        block = next((blocks[i] for i, it in enumerate(types) if it.heap_index == index), 0)
        local = "yes" if heap.flags & vk_mem.MemoryHeapFlags.DEVICE_LOCAL else "no"
        budget = size_text(budgets[index].budget)
        rows.add_row(str(index), size_text(heap.size), local, budget, size_text(block))
    return rows


def type_table(device: vk_mem.Device) -> Table:
    rows = table("Memory types", "Type", "Heap", "Properties", "AUTO chooses it for")
    uses = chosen_types(device)
    for index, memory_type in enumerate(device.memory_properties.memory_types):
        heap, flags = str(memory_type.heap_index), flag_names(memory_type.property_flags)
        rows.add_row(str(index), heap, flags, ", ".join(uses.get(index, [])))
    return rows


def chosen_types(device: vk_mem.Device) -> dict[int, list[str]]:
    """Finds the memory type that each common use gets."""
    flags, usage = vk_mem.AllocationCreateFlags, vk_mem.BufferUsage
    uses = {
        "device only": (usage.STORAGE_BUFFER, flags(0)),
        "staging": (usage.TRANSFER_SRC, flags.HOST_ACCESS_SEQUENTIAL_WRITE),
        "read-back": (usage.TRANSFER_DST, flags.HOST_ACCESS_RANDOM),
        "uniforms": (usage.UNIFORM_BUFFER, flags.HOST_ACCESS_SEQUENTIAL_WRITE),
    }
    chosen: dict[int, list[str]] = {}
    with vk_mem.Allocator(device) as allocator:
        for name, (buffer_usage, access) in uses.items():
            index = allocator.find_memory_type_index_for_buffer_info(
                65536, buffer_usage, flags=access
            )
            chosen.setdefault(index, []).append(name)
    return chosen


def limit_table(device: vk_mem.Device) -> Table:
    limits = device.properties
    rows = table("Limits", "Limit", "Value", right=(1,))
    rows.add_row("maxMemoryAllocationCount", str(limits.max_memory_allocation_count))
    rows.add_row("maxMemoryAllocationSize", size_text(limits.max_memory_allocation_size))
    rows.add_row("bufferImageGranularity", size_text(limits.buffer_image_granularity))
    rows.add_row("nonCoherentAtomSize", size_text(limits.non_coherent_atom_size))
    return rows


@app.command(epilog=EXIT_CODES)
def demo(
    device: DeviceName = None,
    simulated: Profile = None,
    validation: Validation = False,
    count: Annotated[int, typer.Option(help="Random buffers to create and destroy.", min=0)] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.", min=0)] = 1,
    transfer: Annotated[
        int,
        typer.Option(help="Upload and download an array of so many MiB, and time it.", min=0),
    ] = 0,
    json: Json = False,
) -> None:
    """Create, bind, map, copy on the device, compare, release. Fails if anything differs."""
    try:
        # Imported here: NumPy takes longer to load than any other command takes to run.
        from vk_mem.cli import demo as demonstration
    except ModuleNotFoundError as missing:
        raise fail(f"the demo needs {missing.name}: pip install 'vk-mem[cli,numpy]'") from None
    try:
        chosen, without_driver = open_device(device, simulated, validation)
        name = f"{chosen.properties.device_name} ({kind_of(chosen)})"
        if not json:
            if without_driver is not None:
                out.print(f"No driver to use: {without_driver}", markup=False, soft_wrap=True)
            title = plain("Device: ").append_text(plain(name, "bold"))
            out.print(title.append(f", Vulkan {version_text(chosen.api_version)}"))
        began = time.perf_counter()
        with working() as work:
            result = demonstration.run(chosen, count, seed, transfer << 20, work.of_step)
        seconds = time.perf_counter() - began
    except (vk_mem.VkMemError, demonstration.Difference) as error:
        raise fail(str(error)) from None
    if json:
        about_it = {**about(chosen.properties), "kind": kind_of(chosen)}
        result_json = dataclasses.asdict(result)
        print_json({"device": about_it, "seconds": round(seconds, 3), **result_json})
        return
    show(placed_table(result.placed))
    out.print(
        f"\n{size_text(result.compared_bytes)} went to the device and back and are equal; "
        f"{counted(result.churned, 'random buffer')} created, written, read and destroyed; "
        f"{counted(result.blocks, 'memory block')}; everything released; {seconds:.2f} s",
        soft_wrap=True,
    )
    if result.moved is not None:
        out.print(moved_text(result.moved), soft_wrap=True)
    out.print(plain("ok", "green").append_text(plain(f" on {name}")), soft_wrap=True)


def moved_text(moved: Moved) -> str:
    """Says how fast an array went up and came down."""
    up, down = (
        moved.size / seconds / 1e9 for seconds in (moved.upload_seconds, moved.download_seconds)
    )
    return (
        f"{size_text(moved.size)} uploaded at {up:.1f} GB/s (way: {moved.upload_way}), "
        f"downloaded at {down:.1f} GB/s (way: {moved.download_way})"
    )


def placed_table(placed: list[Placed]) -> Table:
    columns = ("Name", "Kind", "Size", "Memory", "Offset", "Type", "Properties")
    rows = table("What went where", *columns, right=(2, 4, 5))
    for row in placed:
        rows.add_row(
            row.name,
            row.kind,
            size_text(row.size),
            row.memory,
            str(row.offset),
            str(row.memory_type_index),
            short_flag_names(row.memory_properties),
        )
    return rows
