"""A prompt as a person reads it, whatever its letters are made of, and terms looked for in it.

Case, diacritics, invisible characters, look-alike letters, digits and signs in place of letters,
letters spelled out one by one and letters held down make no difference. A term is found as a word
of its own, never inside another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

from .lists import SHORT_WORDS

_LOOK_ALIKES = {
    "a": "аɑαᴀАΑ",
    "b": "вьβʙВЬΒ",
    "c": "сᴄСϲ¢",
    "d": "ԁđᴅĐ",
    "e": "еєεᴇЕΕ€",
    "f": "ꜰ",
    "g": "ɡɢ",
    "h": "һнħʜҺНΗĦ",
    "i": "іɩɪıιІΙ",
    "j": "јᴊЈ",
    "k": "кκᴋКΚ",
    "l": "ӏłʟӀŁ£",
    "m": "мᴍМΜ",
    "n": "пռηνɴΝ",
    "o": "оοσøᴏОΟØ",
    "p": "рρᴘРΡ",
    "q": "ԛ",
    "r": "гʀ",
    "s": "ѕꜱʂςЅ",
    "t": "тτŧᴛТΤŦ",
    "u": "υᴜ",
    "v": "ᴠѵ",
    "w": "ԝωᴡԜ",
    "x": "хχХΧ",
    "y": "уγʏУΥ¥",
    "z": "ᴢΖ",
}
"""Letters of other alphabets, small capitals and strokes by the letter that they pass for.

Those that are full-width, mathematical, circled or accented are taken apart by Unicode's own tables.
"""

_ALPHABET = str.maketrans(
    {odd: letter for letter, alike in _LOOK_ALIKES.items() for odd in alike}
    # White on black, and flags: neither has a decomposition.
    | {chr(first + n): chr(97 + n) for first in (0x1F150, 0x1F170, 0x1F1E6) for n in range(26)}
)
_SIGNS = str.maketrans("0134578@$!", "oieastbasi")
# i and l are written for each other, and 1 for both.
_FOLDED = str.maketrans("l", "i")

_CHUNK = re.compile(r"[^\s,;:()\[\]{}<>\"/\\|]+")
_WORD = re.compile(r"[^\W_]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_HAS_LETTER = re.compile(r"[^\W\d_]")
_DOUBLE = re.compile(r"(.)\1")
_HELD = re.compile(r"(.)\1{2,}")
_HELD_AT_AN_END = re.compile(r"^(.)\1|(.)\2$")
_BAR_IN_A_WORD = re.compile(r"(?<=[^\W_])\|(?=[^\W_])")
_AROUND = ".!?…'’*~`\"-_"

_MASK = re.compile(r"[*#•]")
_LETTER_OR_MASK = re.compile(r"[^\W_]|[*#•]")

_BETWEEN = r"(?: \S+){0,2} "
"""What `...` in a term stands for."""

_FIRST_UNSPACED = "\u1100"
"""From Hangul on: scripts in which a word is not set off by spaces or takes endings without them."""

_LONGEST_PAIR = 40
"""Letters of the longest word that is looked at for two that are run together."""


@dataclass(frozen=True)
class Reading:
    """What is looked through: the text, every form of its words, and its words in their order.

    `spelled` has what single letters spell, `masked` finds the words that have letters blotted out.
    """

    text: str
    words: frozenset[str]
    lines: tuple[str, ...]
    spelled: tuple[str, ...]
    masked: re.Pattern[str] | None


@dataclass(frozen=True)
class Terms:
    """Words, phrases and beginnings of words, any one of which is enough."""

    words: frozenset[str]
    phrases: tuple[str, ...]
    phrases_with_gaps: re.Pattern[str] | None
    beginnings: tuple[str, ...]
    unspaced: tuple[str, ...]
    starts: frozenset[str]
    listing: str

    @classmethod
    def parse(cls, *texts: str) -> Self:
        """Terms with commas between them.

        A `*` at the end of one stands for whatever follows, `...` within for up to two words.
        """
        words, phrases, with_gaps, beginnings, unspaced = set(), [], [], [], []
        for term in ",".join(texts).split(","):
            plain = plain_text(term).strip()
            sides = [" ".join(_read_words(side)) for side in plain.split("...")]
            if len(sides) > 1 and all(sides):
                with_gaps.append(_BETWEEN.join(sides))
                continue
            parts = _read_words(plain)
            if not parts:
                continue
            # Together too: "little girl" is also written as one word.
            whole = "".join(parts)
            if whole[0] >= _FIRST_UNSPACED:
                unspaced.append(whole)
            elif plain.endswith("*"):
                beginnings.append(whole)
            else:
                words.add(whole)
            if len(parts) > 1:
                phrases.append(f" {' '.join(parts)}" + ("" if plain.endswith("*") else " "))
        return cls(
            words=frozenset(words),
            phrases=tuple(phrases),
            phrases_with_gaps=re.compile(f" (?:{'|'.join(with_gaps)}) ") if with_gaps else None,
            beginnings=tuple(beginnings),
            unspaced=tuple(unspaced),
            starts=frozenset(beginning[0] for beginning in beginnings),
            listing="\n".join((*words, *beginnings)),
        )

    def are_in(self, reading: Reading) -> bool:
        """Whether one of them is there."""
        gaps = self.phrases_with_gaps
        return (
            not self.words.isdisjoint(reading.words)
            or any(word[0] in self.starts and word.startswith(self.beginnings) for word in reading.words)
            or any(phrase in line for phrase in self.phrases for line in reading.lines)
            or (gaps is not None and any(gaps.search(line) for line in reading.lines))
            or (not reading.text.isascii() and any(term in reading.text for term in self.unspaced))
            or (reading.masked is not None and reading.masked.search(self.listing) is not None)
            or any(
                term in spelled
                for spelled in reading.spelled
                for term in (*self.words, *self.beginnings)
                if len(term) > 2
            )
        )

    def count_words_in(self, reading: Reading) -> int:
        """How many different words of them are there."""
        return len(self.words & reading.words)

    def are_joined_in(self, reading: Reading, others: Terms) -> bool:
        """Whether one of them and one of the others are run together into one word."""
        return any(
            (first in self and second in others) or (first in others and second in self)
            for word in reading.words
            if len(word) <= _LONGEST_PAIR
            for first, second in ((word[:cut], word[cut:]) for cut in range(3, len(word) - 2))
        )

    def __contains__(self, word: str) -> bool:
        """Whether a word is one of them."""
        return word in self.words or word in self.beginnings


def plain_text(text: str) -> str:
    """A text in small letters of the alphabet, as far as it can be: what looks like one counts as one."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text)
    # Accents and other marks (M), and what cannot be seen (Cf: joiners, directions, soft hyphens).
    seen = "".join(one for one in apart if unicodedata.category(one) not in ("Mn", "Me", "Cf"))
    return seen.translate(_ALPHABET).casefold()


def read_prompt(text: str) -> Reading:
    """Read a plain text: as it stands, and with digits and signs taken for the letters they stand for."""
    plain = [word.translate(_FOLDED) for word in _LETTERS.findall(text)]
    signed: list[str] = []
    joined: list[str] = []
    pieces: list[str] = []
    masked: set[str] = set()
    for chunk in _CHUNK.findall(text):
        bare = chunk.strip(_AROUND)
        if len(bare) == 1 or _HAS_LETTER.search(bare):
            bare = bare.translate(_SIGNS)
        parts = _read_words(bare)
        signed += parts
        # What has an apostrophe or a hyphen in it ends there; a digit is a number here.
        pieces.append(bare if len(parts) == 1 and not chunk.isdigit() else "")
        if len(parts) > 1:
            joined.append("".join(parts))
        if _MASK.search(chunk):
            masked |= _read_masks(chunk)
    if "|" in text:
        # It parts words, and is written for i and l.
        joined += _read_words(_BAR_IN_A_WORD.sub("i", text).translate(_SIGNS))
    words = {form for word in {*plain, *signed, *joined, *_join_pieces(pieces)} for form in _forms(word)}
    lines = tuple(f" {' '.join(line)} " for line in (plain, signed))
    return Reading(
        text=text,
        words=frozenset(words),
        lines=lines,
        spelled=tuple(_spelled(signed)),
        masked=re.compile(f"^(?:{'|'.join(sorted(masked))})$", re.MULTILINE) if masked else None,
    )


def without(phrases: str, text: str) -> str:
    """A plain text less these phrases, which have commas between them."""
    return _any_of(phrases).sub(" , ", text)


@cache
def _any_of(phrases: str) -> re.Pattern[str]:
    plain = plain_text(phrases).split(",")
    written = (r"[\s_-]+".join(map(re.escape, phrase.split())) for phrase in plain)
    # What is not set off by spaces has no word's end either.
    return re.compile("|".join(one if one >= _FIRST_UNSPACED else rf"\b{one}\b" for one in written))


def _read_words(text: str) -> list[str]:
    """The words of a plain text."""
    return [word.translate(_FOLDED) for word in _WORD.findall(text)]


def _read_masks(chunk: str) -> set[str]:
    """A word with letters blotted out and its beginnings, as regular expressions; none if few are left."""
    letters = _LETTER_OR_MASK.findall(chunk.translate(_SIGNS).translate(_FOLDED))
    masks = sum(_MASK.match(letter) is not None for letter in letters)
    if len(letters) - masks < max(2, masks):
        return set()
    word = "".join("." if _MASK.match(letter) else letter for letter in letters)
    return {word, *(word[:end] for end in range(4, len(word)) if "." in word[:end])}


def _join_pieces(words: list[str]) -> Iterator[str]:
    """What two or three neighbours are together, of which all but one are too short to be words."""
    are_pieces = [0 < len(word) < 3 and word not in SHORT_WORDS for word in words]
    if not any(are_pieces):
        return
    for count in (2, 3):
        for first in range(len(words) - count + 1):
            some = words[first : first + count]
            if sum(are_pieces[first : first + count]) >= count - 1 and all(some):
                yield "".join(some).translate(_FOLDED)


def _forms(word: str) -> Iterator[str]:
    """A word, and what it is without letters that are held down: nuuude, sexx, teeen."""
    yield word
    if not _DOUBLE.search(word):
        return
    yield _HELD.sub(r"\1", word)
    yield _HELD.sub(r"\1\1", word)
    yield _HELD_AT_AN_END.sub(r"\1\2", word)


def _spelled(words: list[str]) -> Iterator[str]:
    """What three or more single letters in a row spell."""
    letters = ""
    for word in (*words, ".."):
        if len(word) == 1:
            letters += word
            continue
        if len(letters) > 2:
            yield letters
        letters = ""
