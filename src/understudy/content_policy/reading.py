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
    "n": "пηνɴΝ",
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
_AROUND = ".!?…'’*~`\"-_"

_FIRST_UNSPACED = "\u1100"
"""From Hangul on: scripts in which a word is not set off by spaces or takes endings without them."""

_YOUNG = (
    r"(?:0?[0-9]|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"thirteen|fourteen|fifteen|sixteen|seventeen)"
)
_YOUNG_AGE = re.compile(
    rf"(?<![\w.]){_YOUNG}[\s_-]*(?:(?:years?|yrs?)[\s_-]*(?:old|of[\s_-]+age)|y[\s./_-]*o(?![a-z]))"
    rf"|(?<!middle[\s-])\baged?[\s_:=-]*(?:of[\s_]+)?{_YOUNG}(?=\s*(?:$|[,.;)\n]|y))"
    rf"|(?<![\w.])\d+[\s_-]*months?[\s_-]*old"
)


@dataclass(frozen=True)
class Reading:
    """What is looked through: the text, every form of its words, and its words in their order.

    `spelled` has what single letters spell.
    """

    text: str
    words: frozenset[str]
    lines: tuple[str, ...]
    spelled: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """Words, phrases and beginnings of words, any one of which is enough."""

    words: frozenset[str]
    phrases: tuple[str, ...]
    beginnings: tuple[str, ...]
    unspaced: tuple[str, ...]
    starts: frozenset[str]

    @classmethod
    def parse(cls, *texts: str) -> Self:
        """Terms with commas between them; a `*` at the end of one stands for whatever follows."""
        words, phrases, beginnings, unspaced = set(), [], [], []
        for term in ",".join(texts).split(","):
            plain = plain_text(term).strip()
            parts = [word.translate(_FOLDED) for word in _WORD.findall(plain)]
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
        starts = frozenset(beginning[0] for beginning in beginnings)
        return cls(frozenset(words), tuple(phrases), tuple(beginnings), tuple(unspaced), starts)

    def are_in(self, reading: Reading) -> bool:
        """Whether one of them is there."""
        return (
            not self.words.isdisjoint(reading.words)
            or any(word[0] in self.starts and word.startswith(self.beginnings) for word in reading.words)
            or any(phrase in line for phrase in self.phrases for line in reading.lines)
            or (not reading.text.isascii() and any(term in reading.text for term in self.unspaced))
            or any(
                term in spelled
                for spelled in reading.spelled
                for term in (*self.words, *self.beginnings)
                if len(term) > 2
            )
        )


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
    for chunk in _CHUNK.findall(text):
        bare = chunk.strip(_AROUND)
        if len(bare) == 1 or _HAS_LETTER.search(bare):
            bare = bare.translate(_SIGNS)
        parts = [word.translate(_FOLDED) for word in _WORD.findall(bare)]
        signed += parts
        if len(parts) > 1:
            joined.append("".join(parts))
    words = {form for word in {*plain, *signed, *joined} for form in _forms(word)}
    lines = tuple(f" {' '.join(line)} " for line in (plain, signed))
    return Reading(text, frozenset(words), lines, tuple(_spelled(signed)))


def find_young_age(text: str) -> bool:
    """Whether a plain text tells an age below 18."""
    return _YOUNG_AGE.search(text) is not None


def without(phrases: str, text: str) -> str:
    """A plain text less these phrases, which have commas between them."""
    return _any_of(phrases).sub(" , ", text)


@cache
def _any_of(phrases: str) -> re.Pattern[str]:
    written = (r"[\s_-]+".join(map(re.escape, phrase.split())) for phrase in phrases.split(","))
    return re.compile(rf"\b(?:{'|'.join(written)})\b")


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
