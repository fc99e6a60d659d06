"""The public functions that draw: SVG, PNG and HTML."""

from __future__ import annotations

from pathlib import Path

from vk_mem.dump.load import Source
from vk_mem.errors import InvalidArgumentError
from vk_mem.trace import Trace
from vk_mem.view.layout import Picture, lay_out
from vk_mem.view.page import write_page, write_trace_page
from vk_mem.view.raster import check_pillow, write_png
from vk_mem.view.save import PathLike, check_path, saving
from vk_mem.view.scene import Progress, check_progress, make_scene
from vk_mem.view.vector import write_svg

WIDTH = 1000
WIDTHS = range(480, 8001)
SCALES = (0.5, 8.0)


def svg(
    source: Source,
    path: PathLike | None = None,
    *,
    other: Source | None = None,
    title: str | None = None,
    width: int = WIDTH,
    progress: Progress | None = None,
) -> str:
    """Draws memory as an SVG, in light or dark as its viewer prefers. Needs no other package.

    Every block is a bar with its regions at their true offsets, coloured by use. Aliases are drawn
    on top of the region that they share; free memory is hatched. Regions narrower than a pixel are
    combined into columns, filled by their share of the bytes. Hovering over a region shows its
    details. With `other`, each bar shows `source` in its upper half and `other` in its lower.
    Returns the document as a text.

    `path` is a file to write as well; not one that ends in `.json`, as dumps do. `title` is the
    heading, `width` is in pixels, from 480 to 8000; the height follows from the content. `progress`
    is called with the number of allocations drawn so far and in total.

    Raises `DumpError` if a source is not a readable dump, `InvalidArgumentError` for a title that
    is not a text, a width out of range or a path that is a source, `OSError` if a file cannot be
    read or written.
    """
    check_path(path)
    text = write_svg(_picture(source, other, title, width, progress))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    return text


def png(
    source: Source,
    path: PathLike | None = None,
    *,
    other: Source | None = None,
    title: str | None = None,
    width: int = WIDTH,
    scale: float = 2.0,
    dark: bool = False,
    progress: Progress | None = None,
) -> bytes:
    """Draws memory as a PNG, like `svg`, and returns its bytes. Needs the extra `vk-mem[view]`.

    `scale` is the number of pixels for each of `width`, from 0.5 to 8. `dark` draws on a dark
    background. Characters that no installed font has appear as boxes: the fonts DejaVu, Noto,
    Liberation and Segoe are used where installed, else the one of Pillow.

    Raises what `svg` raises; `FeatureNotPresentError` without Pillow; `InvalidArgumentError` for a
    scale out of range, or if the picture would have too many pixels.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise InvalidArgumentError(f"scale is a number, not {type(scale).__name__}")
    if not SCALES[0] <= scale <= SCALES[1]:
        raise InvalidArgumentError(f"scale is from {SCALES[0]} to {SCALES[1]}, not {scale}")
    check_path(path)
    check_pillow()
    picture = _picture(source, other, title, width, progress)
    data = write_png(picture, float(scale), bool(dark))
    if path is not None:
        Path(path).write_bytes(data)
    return data


def html(
    source: Source | Trace,
    path: PathLike | None = None,
    *,
    other: Source | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Makes a page to explore memory: zoom, search, filters, and a table of all allocations.

    The page is one file that loads nothing else and needs a browser of 2023 or later. It contains
    all that the dump says about each region, compressed: about 10 MB for a million allocations.

    Of a trace (`vk_mem.trace.load`) the page shows every moment: a timeline of what is held, live
    and allowed in each heap, or of what is live by name, call site or use, with a slider and
    playback that the map follows; and what was made, freed and left in a range of it. About 10 MB
    for a million events. A trace that does not say where allocations were, as those of VMA, is
    played on a simulated device; the page says so.

    Returns the page as a text. With a `path` it is also written to that file while it is
    compressed; the file is replaced only when the page is complete.

    `path`, `other`, `title`, `progress` (of a trace: events) and the exceptions are those of `svg`.
    """
    check_path(path)
    if isinstance(source, Trace):
        if other is not None:
            raise InvalidArgumentError("a page compares two dumps, not a trace: other is None")
        page = write_trace_page(source, _checked_title(title), check_progress(progress))
    else:
        scene = make_scene(source, other)
        page = write_page(scene, _checked_title(title), check_progress(progress))
    if path is None:
        return "".join(page)
    with saving(path) as file:
        pieces = []
        for piece in page:
            file.write(piece)
            pieces.append(piece)
    return "".join(pieces)


def _checked_title(title: str | None) -> str | None:
    if title is not None and not isinstance(title, str):
        raise InvalidArgumentError(f"a title is a text, not {type(title).__name__}")
    return title


def _picture(
    source: Source,
    other: Source | None,
    title: str | None,
    width: int,
    progress: Progress | None,
) -> Picture:
    if isinstance(width, bool) or not isinstance(width, int):
        raise InvalidArgumentError(f"width is a number of pixels, not {type(width).__name__}")
    if width not in WIDTHS:
        raise InvalidArgumentError(
            f"width is from {WIDTHS.start} to {WIDTHS.stop - 1} pixels, not {width}"
        )
    scene = make_scene(source, other)
    return lay_out(scene, width, _checked_title(title), check_progress(progress))
