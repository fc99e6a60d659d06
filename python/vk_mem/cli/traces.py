"""`vk-mem replay` and `vk-mem trace`: recordings, what would come of them elsewhere, other
formats."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import vk_mem
from vk_mem._lazy import load as import_module
from vk_mem.cli.output import PERFETTO, Json, fail, out, plain, print_json, show, table, working
from vk_mem.debugging.sizes import size_of
from vk_mem.errors import VkMemError
from vk_mem.observe.tables import count_text, size_text
from vk_mem.text import counted

if TYPE_CHECKING:
    from vk_mem.trace import Comparison, ReplayReport, Trace

__all__ = ["replay", "trace_app"]

T = TypeVar("T")
SIZES = {"block_size", "small_heap_block_size", "min_alignment"}
"""Settings of a comparison that may be texts such as "64M"."""
LISTS_OF_SIZES = {"heap_size_limits", "budgets"}

TracePath = Annotated[
    str,
    typer.Argument(
        metavar="TRACE",
        help="A recording of vk-mem or VMA, a log of RMM, or a PyTorch snapshot; - is stdin.",
    ),
]
Output = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Where to write.")]


def read(path: str) -> Trace:
    """Reads a trace; on an error exits with one line."""
    load = import_module("vk_mem.trace").load
    try:
        with working() as work:
            work.step("reading")
            source = sys.stdin.buffer.read() if path == "-" else Path(path)
            trace: Trace = load(source, progress=work.progress)
            return trace
    except VkMemError as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{path or '.'}: {error.strerror or error}") from None


def size(text: str, what: str) -> int:
    found = size_of(text)
    if found is None:
        raise typer.BadParameter(f"{what} is bytes, such as 64M, not {text!r}")
    return found


# ---- replay ----


def replay(
    trace: TracePath,
    device: Annotated[
        str | None,
        typer.Option(
            help="A profile of a simulated device, a TOML file with heaps and types of one, or "
            "gpu; by default the device of the recording, simulated.",
            metavar="PROFILE|FILE|gpu",
        ),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="How blocks are divided: tlsf, linear or buddy.")
    ] = None,
    block_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Size of blocks, such as 64M.")
    ] = None,
    threads: Annotated[
        str, typer.Option(help="one, or recorded: as many as the program had.")
    ] = "one",
    clock: Annotated[
        str, typer.Option(help="full speed, recorded, or how many times as fast as recorded.")
    ] = "full",
    until: Annotated[
        str | None,
        typer.Option(metavar="LINE", help="Stop before this line of a text file, or this event."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="Replay with each of several settings."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the memory at the end: .html, .svg or .png."),
    ] = None,
    json: Json = False,
) -> None:
    """Play a recording again: on another device, with other blocks, up to some line.

    Prints times, what was held and live, failures and what was never freed, as a table. With
    --compare each table of the file, such as \\[small] with block_size = "16M", is one row.
    """
    if compare is not None and view is not None:
        raise typer.BadParameter("--view draws one replay, --compare runs several")
    settings: dict[str, Any] = {"threads": threads, "clock": clock_of(clock)}
    if algorithm is not None:
        settings["algorithm"] = algorithm
    if block_size is not None:
        settings["block_size"] = size(block_size, "--block-size")
    several = None if compare is None else settings_of(compare)
    recording = read(trace)
    if until is not None:
        settings["until"] = until_of(recording, until)

    def play(progress: Callable[[int, int], object]) -> ReplayReport | Comparison:
        if device is not None:
            settings["device"] = device_of(device)
        if several is None:
            return recording.replay(**settings, progress=progress)
        named: Any = {name: {**settings, **it} for name, it in several.items()}
        return recording.compare(named, progress=progress)

    report = busy("replaying", play)
    if json:
        out.file.write(report.to_json() + "\n")
        out.file.flush()
    else:
        for line in str(report).splitlines():
            out.print(plain(line), soft_wrap=True)
    if view is not None:
        draw(report, view)


def busy(name: str, work: Callable[[Callable[[int, int], object]], T]) -> T:
    """Shows progress; exits with one line where the work fails."""
    try:
        with working() as bar:
            bar.step(name)
            return work(bar.progress)
    except VkMemError as error:
        raise fail(str(error)) from None


def clock_of(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def until_of(recording: Trace, text: str) -> int | str:
    """A line of a text file, or an event where the trace is of no text file."""
    number = text.removeprefix("event ").removeprefix("line ").strip()
    if not number.isdecimal():
        raise typer.BadParameter(f"--until is a line or an event, not {text!r}")
    is_text = recording.description.format in ("vma", "rmm")
    return int(number) if text.startswith("event ") or not is_text else f"line {number}"


def device_of(name: str) -> Any:
    if name == "gpu" or name in vk_mem.SimulatedDevice.profile_names():
        return name
    if not name.endswith(".toml"):
        return name
    given = table_of(name)
    for key in ("heaps", "types"):
        if isinstance(given.get(key), list):
            given[key] = [tuple(it) if isinstance(it, list) else it for it in given[key]]
    try:
        return vk_mem.SimulatedDevice(**given)
    except TypeError as error:
        raise vk_mem.InvalidArgumentError(f"{name}: {error}") from None


def table_of(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise fail(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise fail(f"{path}: it is not UTF-8") from None
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from None


def settings_of(path: str) -> dict[str, dict[str, Any]]:
    """Reads a table of settings for each replay."""
    found = {}
    for name, given in table_of(path).items():
        if not isinstance(given, Mapping):
            raise fail(f"{path}: {name} is no table of settings")
        settings = dict(given)
        for key, value in settings.items():
            if key in SIZES and isinstance(value, str):
                settings[key] = size(value, f"{name}.{key}")
            elif key in LISTS_OF_SIZES and isinstance(value, list):
                settings[key] = [
                    size(it, f"{name}.{key}") if isinstance(it, str) else it for it in value
                ]
            elif key == "debug" and isinstance(value, Mapping):
                try:
                    settings[key] = vk_mem.Debug(**value)
                except (TypeError, VkMemError) as error:
                    raise fail(f"{path}: {name}.debug: {error}") from None
        found[name] = settings
    if not found:
        raise fail(f"{path}: there is no table of settings")
    return found


def draw(report: Any, target: str) -> None:
    kind = {".html": "html", ".htm": "html", ".svg": "svg", ".png": "png"}.get(
        Path(target).suffix.lower()
    )
    if kind is None:
        raise typer.BadParameter(f"--view ends with .html, .svg or .png, not {target!r}")
    try:
        picture = getattr(import_module("vk_mem.view"), kind)
        busy("drawing", lambda progress: picture(report, target, progress=progress))
    except ModuleNotFoundError as missing:
        raise fail(f"pictures need {missing.name}, which is not installed") from None
    except OSError as error:
        raise fail(f"{target}: {error.strerror or error}") from None


# ---- trace ----

trace_app = typer.Typer(
    help="Look at recordings, and write them in other formats.", no_args_is_help=True
)


@trace_app.command()
def info(trace: TracePath, json: Json = False) -> None:
    """Show what a recording is of: device, program, how many events of which kind, what is odd."""
    recording = read(trace)
    facts, kinds = facts_of(recording), kinds_of(recording)
    warnings = [str(it) for it in recording.warnings]
    if json:
        print_json({**facts, "kinds": kinds, "warnings": warnings})
        return
    rows = table("", "What", "Value")
    for name, value in facts.items():
        if value is not None:
            rows.add_row(name.replace("_", " "), plain(str(value)))
    counts = table("Events", "Kind", "Count", right=(1,))
    for kind, count in kinds.items():
        counts.add_row(kind.replace("_", " "), count_text(count))
    out.print(rows)
    show(counts)
    for text in warnings:
        out.print(plain(f"warning: {text}", "yellow"), soft_wrap=True)


def facts_of(recording: Trace) -> dict[str, Any]:
    it = recording.description
    times = [event.time for event in (recording[:1] + recording[-1:])]
    cut = recording.cut
    return {
        "format": f"{it.format} {it.version[0]}.{it.version[1]}",
        "device": None if it.device is None else it.device.properties.device_name,
        "driver": None if it.device is None else it.device.properties.driver or None,
        "driver_version": it.driver_version,
        "extensions": sorted(name for name, enabled in it.extensions.items() if enabled) or None,
        "options": it.options,
        "settings": it.settings or None,
        "program": it.program,
        "process": it.process,
        "library": it.library,
        "events": len(recording),
        "seconds": (times[-1] - times[0]) / 1e9 if times else 0.0,
        "unknown_events": recording.unknown_events or None,
        "cut_at": cut and (f"line {cut.line}" if cut.offset is None else f"byte {cut.offset}"),
        "warning_count": recording.warning_count or None,
    }


def kinds_of(recording: Trace) -> dict[str, int]:
    """Counts events by their kind, the most first."""
    counts = recording.kinds()
    return dict(sorted(counts.items(), key=lambda it: -it[1]))


@trace_app.command()
def convert(
    trace: TracePath,
    output: Output,
    format: Annotated[
        str | None,
        typer.Option("--to", help="vkmem, vma or rmm; by default what FILE ends with says."),
    ] = None,
) -> None:
    """Write a recording in the format of vk-mem (.vkmem), of VMA 1,8 (.csv), or as a log of RMM.

    Says what the format has no words for.
    """
    target = format or {".vkmem": "vkmem", ".csv": "vma"}.get(Path(output).suffix.lower())
    if target not in ("vkmem", "vma", "rmm"):
        raise typer.BadParameter("FILE ends with .vkmem or .csv, or --to says vkmem, vma or rmm")
    recording = read(trace)
    writers: dict[str, Callable[..., dict[str, int] | None]] = {
        "vkmem": recording.save,
        "vma": recording.to_vma_csv,
        "rmm": recording.to_rmm_csv,
    }
    left_out = written(output, lambda progress: writers[target](output, progress=progress))
    for kind, count in (left_out or {}).items():
        what = f"{counted(count, 'event')} left out: {kind.replace('_', ' ')}"
        out.print(plain(f"{what} is not in this format"), soft_wrap=True)


@trace_app.command()
def export(
    trace: TracePath,
    output: Output,
    allocations: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Show allocations from this size on, such as 1M."),
    ] = None,
    resources: Annotated[
        bool, typer.Option("--resources", help="Add a VulkanMemoryEvent for each resource.")
    ] = False,
) -> None:
    """Write a timeline for ui.perfetto.dev: .pftrace, or .json for Chrome's tracing.

    Other endings write what `vk-mem trace convert` does.
    """
    suffix = Path(output).suffix.lower()
    least = None if allocations is None else size(allocations, "--allocations")
    if suffix in (".vkmem", ".csv"):
        return convert(trace, output)
    if suffix not in (*PERFETTO, ".json"):
        raise typer.BadParameter("FILE ends with .pftrace, .json, .vkmem or .csv")
    recording = read(trace)
    write = recording.to_chrome_json if suffix == ".json" else recording.to_perfetto
    written(
        output,
        lambda progress: write(output, allocations=least, resources=resources, progress=progress),
    )


def written(path: str, write: Callable[[Callable[[int, int], object]], T]) -> T:
    try:
        done = busy("writing", write)
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from None
    with_size = f" ({size_text(Path(path).stat().st_size)})" if Path(path).is_file() else ""
    out.print(plain(f"{path}{with_size}"), soft_wrap=True)
    return done
