"""The three functions that draw: SVG, PNG and HTML."""

from __future__ import annotations

from pathlib import Path

from vk_mem.dump.load import Source
from vk_mem.errors import InvalidArgumentError
from vk_mem.view.layout import Picture, lay_out
from vk_mem.view.page import write_page
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
    """Draws memory as an SVG; in light or dark as its viewer prefers. Needs nothing installed.

    Every block is a bar with its regions at their true offsets, coloured by use; what shares memory
    with a region lies on it; hatched is free. Regions narrower than a pixel are drawn in columns,
    filled by their share of the bytes. Pointing at something tells what it is. With `other` it is a
    comparison: `source` in the upper half of each bar, `other` in the lower. Returns the document
    as a text.

    `path` is a file to write as well; not one that ends in `.json`, as dumps do. `title` stands above
    it all, `width` is in pixels, from 480 to 8000; the height follows from the content. `progress` is called with the allocations drawn
    so far and with how many there are.

    Raises `DumpError` if a source is not a readable dump, `InvalidArgumentError` for a title that
    is not a text, a width out of range or a path that is a source, `OSError` if a file cannot be read or written.
    """
    check_path(path)
    text = write_svg(_picture(source, other, title, width, progress))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
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
    """Draws the same as `svg` does as a PNG, and returns its bytes. Needs the extra `vk-mem[view]`.

    `scale` is the number of pixels for each of `width`, from 0.5 to 8. `dark` draws on a dark
    ground. Letters that no font at hand has appear as boxes: Pillow takes DejaVu, Noto, Liberation
    or Segoe where they are installed, else a font of its own.

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
    source: Source,
    path: PathLike | None = None,
    *,
    other: Source | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Makes a page to look into memory with: zoom, search, filters, and a table of all allocations.

    It is one file that loads nothing, from disk or from anywhere, and needs nothing installed but
    a browser of 2023 or later. All the dump says of each region is in it, compressed: a million
    allocations take some 10 MB.

    Returns the page as a text. With a `path` it goes to that file as well, piece by piece while it
    is packed; what was there before stays there until all of it is written.

    `path`, `other`, `title` and `progress`, and what it raises, are those of `svg`.
    """
    check_path(path)
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
