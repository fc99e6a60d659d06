"""Writes SVG directly, without a library: milliseconds for thousands of regions."""

from __future__ import annotations

from collections.abc import Iterator

from vk_mem.dump.kinds import FREE, KINDS
from vk_mem.text import escaped, short, visible
from vk_mem.view.layout import SIZES, BarItem, Box, Label, Picture
from vk_mem.view.pieces import Piece, Stack, half, inset, region_title
from vk_mem.view.text import fitted
from vk_mem.view.theme import DARK, LIGHT, ink_on, kind_colours

FONT = "system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
NARROWEST_TITLE = 3.0
"""Pixels. A narrower piece has no tooltip, as a pointer cannot hit it."""
NARROWEST_NAME = 44.0
SEAM = 0.75
"""Pixels left open at the right end of a region, to separate equal neighbours."""


def write_svg(picture: Picture) -> str:
    """Returns the SVG document."""
    return "".join(_document(picture))


def number(value: float) -> str:
    """Formats a length in hundredths of a pixel, as short as possible."""
    return f"{round(value, 2):g}"


def _document(picture: Picture) -> Iterator[str]:
    width, height = number(picture.width), number(picture.height)
    title = escaped(short(picture.title))
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vkm" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{title}"><title>{title}</title>'
        f"<style>{_style()}</style>"
        '<defs><pattern id="vkm-free" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<path class="hatch" d="M-1 7L7-1M-1 1L1-1M5 7L7 5"/></pattern></defs>'
        f'<rect class="ground" width="{width}" height="{height}"/>\n'
    )
    for item in picture.items:
        if isinstance(item, Box):
            yield _box(item)
        elif isinstance(item, Label):
            yield _label(item)
        else:
            yield from _bar(item)
    yield "</svg>\n"


def _style() -> str:
    rules = [f"text{{font:12px {FONT};font-variant-numeric:tabular-nums}}"]
    rules += [f".{style}{{font-size:{number(size)}px}}" for style, size in SIZES.items()]
    rules += [".title,.head{font-weight:600}.seen{font-size:10.5px;pointer-events:none}"]
    rules += [
        ".hatch{fill:none;stroke-width:1}.bar{fill:none;stroke-width:1}.alias{stroke-width:1}"
    ]
    scoped = [f".vkm {rule}" for rule in "".join(rules).replace("}.", "}\0.").split("\0")]
    light, dark = _colours(LIGHT, False), _colours(DARK, True)
    return (
        "".join(scoped).replace(",.head", ",.vkm .head")
        + light
        + "@media(prefers-color-scheme:dark){"
        + dark
        + "}"
    )


def _colours(theme: dict[str, str], dark: bool) -> str:
    fills = {
        "text,.vkm .title,.vkm .head": theme["ink"],
        "quiet": theme["quiet"],
        "alarm": theme["alarm"],
    }
    names = (
        "ground",
        "track",
        "allocated",
        "margin",
        "quarantine",
        "reserved",
        "foreign",
        "budget",
        "fragmented",
        "free",
    )
    fills |= {name: theme[name] for name in names}
    for index, colour in enumerate(kind_colours(dark)):
        fills[f"k{index}"] = colour
        fills[f"t{index}"] = ink_on(colour)
    rules = [f".vkm .{name}{{fill:{colour}}}" for name, colour in fills.items()]
    rules += [
        f".vkm .hatch{{stroke:{theme['hatch']}}}",
        f".vkm .bar{{stroke:{theme['edge']}}}",
        f".vkm .alias{{stroke:{theme['ground']}}}",
    ]
    return "".join(rules)


def _box(box: Box) -> str:
    free = box.fill == f"k{FREE}"
    start = (
        f'<rect class="{box.fill}" x="{number(box.x)}" y="{number(box.y)}" '
        f'width="{number(box.width)}" height="{number(box.height)}" rx="2"'
    )
    made = f"{start}><title>{escaped(box.title)}</title></rect>" if box.title else f"{start}/>"
    if free:
        place = f'x="{number(box.x)}" y="{number(box.y)}"'
        size = f'width="{number(box.width)}" height="{number(box.height)}"'
        made += f'<rect fill="url(#vkm-free)" {place} {size} rx="2"/>'
        made += f'<rect class="bar" {place} {size} rx="2"/>'
    return made + "\n"


def _label(label: Label) -> str:
    anchor = "" if label.anchor == "start" else f' text-anchor="{label.anchor}"'
    return (
        f'<text class="{label.style}" x="{number(label.x)}" y="{number(label.y)}"{anchor}>'
        f"{escaped(label.text)}</text>\n"
    )


def _bar(item: BarItem) -> Iterator[str]:
    start, tall = half(item.bar.side, item.height)
    width, height = number(item.width), number(tall)
    top = f'y="{number(start)}" ' if start else ""
    kind = "strip" if item.bar.dedicated else "block"
    yield (
        f'<g class="{kind}" data-id="{escaped(short(item.bar.id))}" data-size="{item.bar.size}" '
        f'transform="translate({number(item.x)} {number(item.y)})">'
        f"<title>{escaped(item.title)}</title>"
        f'<rect class="free" {top}width="{width}" height="{height}"/>'
        f'<rect fill="url(#vkm-free)" {top}width="{width}" height="{height}"/>'
    )
    for piece in item.pieces.regions:
        yield _region(piece, "")
    yield from _stacks(item.pieces.stacks)
    for piece in item.pieces.aliases:
        yield _region(piece, " alias")
    for piece in (*item.pieces.regions, *item.pieces.aliases):
        if piece.width >= NARROWEST_NAME:
            yield _name(item, piece)
    yield f'<rect class="bar" {top}width="{width}" height="{height}"/></g>\n'


def _region(piece: Piece, more: str) -> str:
    x, y, width, height, shade, row = piece
    # Six significant digits resolve a hundredth of a pixel up to 10,000.
    top = f' y="{y:.4g}"' if y else ""
    start = f'<rect class="k{shade}{more}" x="{x:.6g}"{top} width='
    if width < NARROWEST_TITLE:
        return f'{start}"{width:.3g}" height="{height:.4g}"/>'
    start = f'{start}"{width - SEAM:.5g}" height="{height:.4g}"'
    return f"{start}><title>{escaped(region_title(row))}</title></rect>"


def _stacks(stacks: list[Stack]) -> Iterator[str]:
    """Draws the columns as one path for each shade, so a column takes only a few bytes."""
    paths: dict[int, list[str]] = {}
    for x, y, width, height, shade in stacks:
        wide, tall = f"{width:.3g}", f"{height:.3g}"
        paths.setdefault(shade, []).append(f"M{x:.6g} {y:.4g}h{wide}v{tall}h-{wide}z")
    for shade, parts in paths.items():
        yield f'<path class="k{shade}" d="{"".join(parts)}"/>'


def _name(item: BarItem, piece: Piece) -> str:
    """Draws the name inside a region, above its aliases, if it fits."""
    region = piece.row.region
    tall = piece.height
    if not piece.row.lane and item.bar.lanes and region.aliases:
        tall *= inset(item.bar.lanes)
    if tall < 11:
        return ""
    text = region.name or KINDS[piece.row.kind].title
    text = fitted(visible(short(text, 120)), piece.width - 8, 10.5)
    if not text:
        return ""
    middle = number(piece.y + tall / 2 + 3.8)
    return (
        f'<text class="seen t{piece.shade}" x="{number(piece.x + 4)}" y="{middle}">'
        f"{escaped(text)}</text>"
    )
