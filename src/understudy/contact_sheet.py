"""Several pictures on one sheet, each with its caption.

Knows no poses and no characters: pictures and words go in, one picture comes out.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

PAPER = "#ffffff"
INK = "#1c1c1e"
QUIET_INK = "#6e6e73"
FRAME = "#e3e3e8"

FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
)
"""Fonts of the system that are looked for when Pillow's own has no sign for a letter."""

LEAST_CAPTION_PIXELS = 14
TITLE_LINES = 2


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
    A title takes up to two lines. A letter that no font here has a sign for is drawn without its
    accent, or as a question mark.

    Raises:
        ValueError: there are no pictures, or not as many captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError("A contact sheet needs pictures, and a caption for each.")
    columns = min(columns or _choose_columns(len(pictures)), len(pictures))
    cell_height = max(max(1, round(cell_width * one.height / one.width)) for one in pictures)
    gap = max(8, cell_width // 20)
    width = gap + columns * (cell_width + gap)

    font_file = choose_font_file([title, *captions])
    caption_font = load_font(font_file, max(LEAST_CAPTION_PIXELS, cell_width // 18))
    title_font = load_font(font_file, max(18, cell_width // 12))
    caption_height = round(caption_font.size * 2.2)
    title_lines = _wrap_text(replace_missing(title, title_font), title_font, width - 2 * gap, TITLE_LINES)
    line_height = round(title_font.size * 1.35)
    title_height = len(title_lines) * line_height + title_font.size if title_lines else 0

    rows = math.ceil(len(pictures) / columns)
    height = gap + title_height + rows * (cell_height + caption_height + gap)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, line in enumerate(title_lines):
        draw.text((gap, gap + (index + 0.5) * line_height), line, fill=INK, font=title_font, anchor="lm")
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, columns)
        left = gap + column * (cell_width + gap)
        top = gap + title_height + row * (cell_height + caption_height + gap)
        scale = min(cell_width / picture.width, cell_height / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        place = (left + (cell_width - size[0]) // 2, top + (cell_height - size[1]) // 2)
        # What is transparent shows the paper.
        shown = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
        sheet.paste(shown, place, shown)
        draw.rectangle((left - 1, top - 1, left + cell_width, top + cell_height), outline=FRAME)
        words = "".join(_wrap_text(replace_missing(caption, caption_font), caption_font, cell_width, 1))
        middle = (left + cell_width / 2, top + cell_height + caption_height / 2)
        draw.text(middle, words, fill=QUIET_INK, font=caption_font, anchor="mm")
    return sheet


def choose_font_file(texts: Iterable[str]) -> str | None:
    """The font that lacks the fewest letters of the texts; None is Pillow's own, the first choice."""
    letters = {letter for text in texts for letter in unicodedata.normalize("NFC", text)}
    best, fewest = None, len(letters) + 1
    for file in (None, *FONT_FILES):
        try:
            font = load_font(file, LEAST_CAPTION_PIXELS)
        except OSError:
            continue
        lacking = sum(not _has_sign(font, letter) for letter in letters)
        if lacking < fewest:
            best, fewest = file, lacking
        if not lacking:
            break
    return best


@cache
def load_font(file: str | None, size: int) -> ImageFont.FreeTypeFont:
    """A font by the name of its file, looked for where the system keeps its fonts.

    Raises:
        OSError: the system has none of that name.
    """
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def replace_missing(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text on one line; a letter without a sign in the font loses its accent or becomes `?`."""
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter if _has_sign(font, letter) else _simplify(letter, font) for letter in one_line)


def _simplify(letter: str, font: ImageFont.FreeTypeFont) -> str:
    if unicodedata.category(letter)[0] in "MC":
        return ""  # a mark or an invisible sign by itself
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(part for part in parts if _has_sign(font, part) and part != letter) or "?"


@cache
def _has_sign(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    if letter.isspace():
        return True
    # What a font draws for a code point that never has a sign is what it draws for want of one.
    missing, sign = font.getmask("\uffff"), font.getmask(letter)
    return (sign.size, bytes(sign)) != (missing.size, bytes(missing))


def _choose_columns(count: int) -> int:
    if count <= 6:
        return count
    # The fewest empty cells in the last row; of equals, the widest.
    return min(range(4, 7), key=lambda columns: (-count % columns, -columns))


def _wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int, most_lines: int) -> list[str]:
    """At most so many lines, none wider than `width` pixels; an ellipsis ends what is cut off."""
    lines: list[str] = []
    words = text.split()
    while words:
        if len(lines) == most_lines - 1:
            return [*lines, _cut_text(" ".join(words), font, width)]
        count = len(words)
        while count > 1 and font.getlength(" ".join(words[:count])) > width:
            count -= 1
        lines.append(_cut_text(" ".join(words[:count]), font, width))
        words = words[count:]
    return lines


def _cut_text(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        # Whole words, as long as there is more than one.
        text = text.rpartition(" ")[0] or text[:-1]
    return f"{text}..."
