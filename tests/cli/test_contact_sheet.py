"""The contact sheet: its letters, its title, its cells."""

from __future__ import annotations

import pytest
from PIL import Image

from understudy import contact_sheet
from understudy.contact_sheet import choose_font_file, draw_contact_sheet, load_font, replace_missing


def squares(count):
    return [Image.new("RGB", (64, 64), "navy") for _ in range(count)]


def test_plain_letters_take_the_same_font_everywhere():
    assert choose_font_file(["Ava on the run", "wave"]) is None


def test_letters_that_no_font_has_lose_their_accents(monkeypatch):
    monkeypatch.setattr(contact_sheet, "FONT_FILES", ("no such font.ttf",))
    assert choose_font_file(["Zoë"]) is None
    font = load_font(None, 14)
    assert replace_missing("Zoë, nai\u0308ve\n café", font) == "Zoe, naive cafe"
    assert replace_missing("山", font) == "?"
    assert replace_missing("a\u200db\x07", font) == "ab"


def test_every_letter_of_the_sheet_counts_in_the_choice_of_a_font():
    # Whatever the system has, Pillow's own font is never preferred to one with more of the letters.
    chosen = load_font(choose_font_file(["wave", "Zoë Łukasz"]), 14)
    own = load_font(None, 14)
    assert replace_missing("ë", own) == "e"
    assert replace_missing("ë", chosen) in ("ë", "e")


def test_a_long_title_takes_two_lines_and_no_more():
    short, long, longer = (
        draw_contact_sheet(squares(3), "abc", title="a young knight " * times).height for times in (1, 6, 60)
    )
    assert short < long == longer


def test_what_is_transparent_shows_the_paper():
    sheet = draw_contact_sheet([Image.new("RGBA", (64, 64))], ["nobody"])
    assert sheet.getpixel((sheet.width // 2, sheet.height // 3)) == (255, 255, 255)


def test_every_picture_needs_a_caption():
    with pytest.raises(ValueError, match="caption"):
        draw_contact_sheet(squares(2), ["one"])
