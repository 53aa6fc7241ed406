"""Several pictures on one sheet, each with its caption.

Knows no poses and no characters: pictures and words go in, one picture comes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

PAPER = "#ffffff"
INK = "#1c1c1e"
QUIET_INK = "#6e6e73"
FRAME = "#e3e3e8"


def draw_contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    title: str = "",
    columns: int | None = None,
    cell_width: int = 320,
) -> Image.Image:
    """Lay pictures out in rows, keeping their proportions; a caption under each.

    `columns` None chooses rows as nearly full as can be, four to six pictures wide.
    `cell_width` is in pixels; every cell is as high as the tallest picture in it needs.

    Raises:
        ValueError: there are no pictures, or not as many captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError("A contact sheet needs pictures, and a caption for each.")
    columns = min(columns or _choose_columns(len(pictures)), len(pictures))
    cell_height = max(max(1, round(cell_width * one.height / one.width)) for one in pictures)
    gap = max(8, cell_width // 20)
    caption_font = ImageFont.load_default(max(10, cell_width // 18))
    title_font = ImageFont.load_default(max(14, cell_width // 12))
    caption_height = round(caption_font.size * 2.2)
    title_height = round(title_font.size * 2.4) if title else 0

    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new(
        "RGB",
        (
            gap + columns * (cell_width + gap),
            gap + title_height + rows * (cell_height + caption_height + gap),
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        title = _fit_text(title, title_font, sheet.width - 2 * gap)
        draw.text((gap, gap + title_height * 0.4), title, fill=INK, font=title_font, anchor="lm")
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, columns)
        left = gap + column * (cell_width + gap)
        top = gap + title_height + row * (cell_height + caption_height + gap)
        scale = min(cell_width / picture.width, cell_height / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        place = (left + (cell_width - size[0]) // 2, top + (cell_height - size[1]) // 2)
        sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), place)
        draw.rectangle((left - 1, top - 1, left + cell_width, top + cell_height), outline=FRAME)
        words = _fit_text(caption, caption_font, cell_width)
        middle = (left + cell_width / 2, top + cell_height + caption_height / 2)
        draw.text(middle, words, fill=QUIET_INK, font=caption_font, anchor="mm")
    return sheet


def _choose_columns(count: int) -> int:
    if count <= 6:
        return count
    # The fewest empty cells in the last row; of equals, the widest.
    return min(range(4, 7), key=lambda columns: (-count % columns, -columns))


def _fit_text(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
