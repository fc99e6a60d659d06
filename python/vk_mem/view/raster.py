"""Draws PNG files with Pillow."""

from __future__ import annotations

import io
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from vk_mem._lazy import load
from vk_mem.dump.kinds import FREE, KINDS
from vk_mem.errors import FeatureNotPresentError, InvalidArgumentError
from vk_mem.text import short, visible
from vk_mem.view.layout import BOLD, SIZES, BarItem, Box, Label, Picture
from vk_mem.view.pieces import Piece, half, inset
from vk_mem.view.theme import DARK, LIGHT, ink_on, kind_colours

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

MOST_PIXELS = 400_000_000
"""Most pixels of a picture, which take 1.2 GB of memory while drawing."""
PILLOW = ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont")
# File names of fonts on common systems. Pillow's own font has Latin letters only.
FONTS = {
    False: ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "segoeui.ttf"),
    True: ("DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "LiberationSans-Bold.ttf", "segoeuib.ttf"),
}


def check_pillow() -> None:
    """Raises `FeatureNotPresentError` if Pillow is not installed."""
    try:
        for name in PILLOW:
            load(name)
    except ImportError as error:
        if sys.is_finalizing():
            raise
        raise FeatureNotPresentError(
            "a PNG needs Pillow: pip install 'vk-mem[view]' (SVG and HTML need nothing)"
        ) from error


def write_png(picture: Picture, scale: float, dark: bool) -> bytes:
    """Returns the PNG file as bytes."""
    size = (round(picture.width * scale), round(picture.height * scale))
    if size[0] * size[1] > MOST_PIXELS:
        raise InvalidArgumentError(
            f"a picture of {size[0]} x {size[1]} pixels is too large: choose a smaller width or "
            "scale"
        )
    try:
        image = load("PIL.Image").new("RGB", size, (DARK if dark else LIGHT)["ground"])
        _Canvas(image, scale, dark).draw(picture)
        file = io.BytesIO()
        image.save(file, "PNG")
    except ImportError:
        # Pillow imports its parts when they are used, which fails at interpreter shutdown.
        if not sys.is_finalizing():
            raise
        raise ImportError("Pillow cannot draw while the interpreter ends") from None
    return file.getvalue()


@cache
def _font(size: float, bold: bool) -> Any:
    fonts = load("PIL.ImageFont")
    for name in FONTS[bold]:
        try:
            return fonts.truetype(name, size)
        except OSError:
            continue
    return fonts.load_default(size)


class _Canvas:
    def __init__(self, image: Image.Image, scale: float, dark: bool) -> None:
        self.image, self.scale = image, scale
        self.pen: ImageDraw.ImageDraw = load("PIL.ImageDraw").Draw(image)
        self.theme = DARK if dark else LIGHT
        self.kinds = kind_colours(dark)

    def draw(self, picture: Picture) -> None:
        for item in picture.items:
            if isinstance(item, Box):
                self.box(item)
            elif isinstance(item, Label):
                self.label(item)
            else:
                self.bar(item)

    def colour(self, fill: str) -> str:
        return self.theme[fill] if fill in self.theme else self.kinds[int(fill[1:])]

    def fill(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fills a rectangle, at least one pixel. Pillow includes both corners."""
        scale = self.scale
        left, top = round(x * scale), round(y * scale)
        right = max(round((x + width) * scale) - 1, left)
        bottom = max(round((y + height) * scale) - 1, top)
        self.pen.rectangle((left, top, right, bottom), fill=colour)

    def box(self, box: Box) -> None:
        if box.fill == f"k{FREE}":
            self.hatched(box.x, box.y, box.width, box.height)
            self.frame(box.x, box.y, box.width, box.height)
        else:
            self.fill(box.x, box.y, box.width, box.height, self.colour(box.fill))

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        scale = self.scale
        corners = (
            round(x * scale),
            round(y * scale),
            round((x + width) * scale) - 1,
            round((y + height) * scale) - 1,
        )
        self.pen.rectangle(corners, outline=self.theme["edge"], width=max(round(scale / 2), 1))

    def hatched(self, x: float, y: float, width: float, height: float) -> None:
        """Draws free memory: pale, with diagonal lines."""
        scale = self.scale
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        tile = load("PIL.Image").new("RGB", size, self.theme["free"])
        pen = load("PIL.ImageDraw").Draw(tile)
        step, tall = max(round(6 * scale), 3), size[1]
        for start in range(0, size[0] + tall, step):
            line = (start, 0, start - tall, tall)
            pen.line(line, fill=self.theme["hatch"], width=max(round(scale), 1))
        self.image.paste(tile, (round(x * scale), round(y * scale)))

    def label(self, label: Label) -> None:
        colour = self.theme[label.style if label.style in ("quiet", "alarm") else "ink"]
        anchor = "rs" if label.anchor == "end" else "ls"
        bold = label.style in BOLD
        self.text(label.x, label.y, label.text, SIZES[label.style], bold, colour, anchor)

    def text(
        self, x: float, y: float, text: str, size: float, bold: bool, colour: str, anchor: str
    ) -> None:
        font = _font(round(size * self.scale, 1), bold)
        place = (x * self.scale, y * self.scale)
        self.pen.text(place, visible(text), fill=colour, font=font, anchor=anchor)

    def bar(self, item: BarItem) -> None:
        top, height = half(item.bar.side, item.height)
        self.hatched(item.x, item.y + top, item.width, height)
        for piece in item.pieces.regions:
            self.region(item, piece, 0.75)
        for stack in item.pieces.stacks:
            x, y = item.x + stack.x, item.y + stack.y
            self.fill(x, y, stack.width, stack.height, self.kinds[stack.shade])
        for piece in item.pieces.aliases:
            x, y = item.x + piece.x, item.y + piece.y
            self.fill(x - 0.5, y - 0.5, piece.width + 1, piece.height + 1, self.theme["ground"])
            self.region(item, piece, 0.5)
        for piece in (*item.pieces.regions, *item.pieces.aliases):
            self.name(item, piece)
        self.frame(item.x, item.y + top, item.width, height)

    def region(self, item: BarItem, piece: Piece, seam: float) -> None:
        width = piece.width - seam if piece.width >= 3 else piece.width
        x, y = item.x + piece.x, item.y + piece.y
        self.fill(x, y, width, piece.height, self.kinds[piece.shade])

    def name(self, item: BarItem, piece: Piece) -> None:
        """Draws a name as the SVG does, but measured with the actual font."""
        if piece.width < 44:
            return
        region, tall = piece.row.region, piece.height
        if not piece.row.lane and region.aliases:
            tall *= inset(item.bar.lanes)
        if tall < 11:
            return
        text = visible(short(region.name or KINDS[piece.row.kind].title, 120))
        font, room = _font(round(10.5 * self.scale, 1), False), (piece.width - 9) * self.scale
        if font.getlength(text) > room:
            while text and font.getlength(text + "…") > room:
                text = text[:-1]
            if len(text) < 3:
                return
            text = text.rstrip() + "…"
        x, y = item.x + piece.x + 4, item.y + piece.y + tall / 2 + 3.8
        self.text(x, y, text, 10.5, False, ink_on(self.kinds[piece.shade]), "ls")
