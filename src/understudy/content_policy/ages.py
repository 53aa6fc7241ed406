"""Ages below 18 that a text tells: in numbers or words, in years, grades or by who has it."""

from __future__ import annotations

import re

from . import lists
from .reading import plain_text


def find_young_age(text: str) -> bool:
    """Whether a plain text tells an age below 18."""
    return _YOUNG_AGE.search(text) is not None


def find_adult_age(text: str) -> bool:
    """Whether a plain text tells an age from 18 on."""
    return _ADULT_AGE.search(text) is not None


def _any_of(terms: str) -> str:
    """One of these terms, the longest first."""
    plain = {term.strip() for term in plain_text(terms).split(",")}
    return "|".join(sorted(map(re.escape, plain), key=len, reverse=True))


_AFTER_NO_LETTER = r"(?<![^\W\d_])"
_BEFORE_NO_LETTER = r"(?![^\W\d_])"

_DIGITS = r"(?<!\d)(?<!\d[.,])(?:0?[0-9]|1[0-7])(?!\d)"
_IN_WORDS = rf"{_AFTER_NO_LETTER}(?:{_any_of(lists.NUMBERS)}){_BEFORE_NO_LETTER}"
_YOUNG = rf"(?:{_DIGITS}|{_IN_WORDS})"
_YOUNG_KANJI = r"(?<![〇一二三四五六七八九十百])(?:十[一二三四五六七]?|[一二三四五六七八九])"

_IN_YEARS = rf"[\s_-]*(?:{_any_of(lists.YEARS)}){_BEFORE_NO_LETTER}"
_NO_TIME_SPAN = r"(?![\s_-]+(?:ago|later|earlier|before|after|since|from|of[\s_]+(?!age)))"
_YEARS_UNSPACED = rf"\s*(?:{_any_of(lists.YEARS_UNSPACED)})"

_PLURAL_BUT_NO_NOUN = (
    "as|is|was|has|does|his|this|wears|poses|sits|stands|lies|shows|plays|less|always|across|topless|"
    "bottomless|undress|years|yrs|ans|anos|nudes|clothes|pants|panties|boobs|breasts|tits|titties|nipples|"
    "genitals|buttocks"
)
_UNITS = (
    "feet|foot|ft|inch|cm|mm|km|m|kg|lb|k|d|pm|am|star|quarter|hour|minute|second|men|women|people|persons|"
    "children|of|out|bit|tone|percent|degree|megapixel|oclock|o clock"
)
# What follows a number that counts something: things, a measure, a fraction, a ratio.
_COUNTS_NOTHING = (
    rf"(?![.:/]\d|,\d\d\d|-(?!\d)|[x×%°]|[^\W\d_]|[\s_]*(?:[x×%°]|(?:{_UNITS})\b|o'clock"
    rf"|(?!(?:{_PLURAL_BUT_NO_NOUN})\b)[^\W\d_]+s\b))"
)
_ABOUT = r"(?:[\s_]+(?:like|about|around|only|just|barely|not|yet|even|almost|nearly|maybe|approximately))*"
_PERSON = rf"{_AFTER_NO_LETTER}(?:{_any_of(lists.PERSONS)})"
_NOT_ONE = r"(?!0*1(?!\d)|one\b)"

_YOUNG_AGE = re.compile(
    "|".join(
        (
            rf"{_YOUNG}(?:[\s_-]*(?:(?:years?|yrs?)[\s_-]*(?:old|of[\s_-]+age)|y[\s./_-]*o(?![a-z])))",
            r"(?<![\w.])\d+[\s_-]*months?[\s_-]*old",
            rf"{_YOUNG}{_IN_YEARS}{_NO_TIME_SPAN}",
            rf"(?:{_YOUNG}|{_YOUNG_KANJI}){_YEARS_UNSPACED}",
            rf"(?<!middle[\s-])\b(?:aged?|ages)[\s_:=-]*(?:of[\s_]+)?{_YOUNG}{_COUNTS_NOTHING}",
            rf"\b(?:under|below|younger[\s_]+than|less[\s_]+than|not[\s_]+yet|not[\s_]+even|only|just|barely"
            rf"|almost|nearly|between|turn(?:s|ed|ing))[\s_]+(?:the[\s_]+age[\s_]+of[\s_]+)?{_NOT_ONE}{_YOUNG}{_COUNTS_NOTHING}",
            # "who is 13", "she's thirteen".
            rf"{_PERSON}(?:['’]s|[\s_]+(?:is|was|are|of|looks?|looking)){_ABOUT}[\s_]+"
            rf"(?!one\b){_YOUNG}{_COUNTS_NOTHING}",
            # "boy (11)", "girl, 13", "girl13"; small numbers rather count the persons.
            rf"{_PERSON}[\s_]*[(\[][\s_]*{_DIGITS}[\s_]*[)\]]",
            rf"{_PERSON}{_ABOUT}[\s_,-]*(?!0?[0-3](?!\d)){_DIGITS}{_COUNTS_NOTHING}",
            rf"{_PERSON}{_ABOUT}[\s_,-]+(?!one\b){_IN_WORDS}\s*(?![^,.;:!?)\]])",
            # As in advertisements: "13f".
            rf"(?!0?[0-3](?!\d)){_DIGITS}[\s/]?f{_BEFORE_NO_LETTER}",
            r"(?:(?<!\d)(?:[1-9]|1[0-2])(?:st|nd|rd|th)|\b(?:first|second|third|fourth|fifth|sixth|seventh"
            r"|eighth|ninth|tenth|eleventh|twelfth))[\s_-]*grade",
        )
    )
)
_ADULT_AGE = re.compile(
    rf"(?<![\d.])(?:1[89]|[2-9]\d)(?!\d)(?:{_IN_YEARS}|[\s_-]*y[\s./_-]*o(?![a-z])|[\s_]*\+)"
    rf"|(?<!\d)(?:1[89]|[2-9]\d){_YEARS_UNSPACED}|\b(?:over|above|older[\s_]+than)[\s_]+(?:1[789]|[2-9]\d)"
)
