"""What is said of a character: captions, short orders that change one thing, negative prompts.

A caption is true but may leave things out. The words that vary are in `wording.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .character import COLOURED, FOREHEAD_HATS, Character
from .wording import (
    BUILD_WORDS,
    CLOTH_COLOUR_WORDS,
    DISLIKES,
    EXPRESSION_WORDS,
    HAIR_COLOUR_WORDS,
    HAIRDOS,
    POSE_WORDS,
    PREFIXES,
    SCENE_WORDS,
    SUFFIXES,
    SYNONYMS,
    VIEW_WORDS,
)

_PLURALS = ("jeans", "trousers", "shorts", "leggings", "dungarees", "sneakers", "boots", "shoes", "sandals")
_HEAD = ("beard", "skin", "face", "eyes", "hair", "glasses", "hat")
_CLOTHES = ("top", "layer", "bottom", "accessory", "shoes")
_SYNONYM_SHARE = 0.3


@dataclass(frozen=True)
class _Thing:
    """Something that a character has: its words, and whether they take an article."""

    words: str
    counted: bool = False

    def __str__(self) -> str:
        return f"{_choose_article(self.words)} {self.words}" if self.counted else self.words


@dataclass(frozen=True, kw_only=True)
class _Telling:
    """What a caption tells, before it is put into words."""

    person: str
    pronoun: str
    head: list[_Thing]
    clothes: list[_Thing]
    asides: list[str]


def write_caption(
    character: Character,
    rng: random.Random | None = None,
    *,
    pose: str | None = None,
    expression: str | None = None,
    view: str | None = None,
    scene: str | None = None,
) -> str:
    """What a picture of the character shows.

    Without `rng`: everything that lasts from picture to picture, always in the same words. With it
    the wording, the order and what is left out vary. `pose` is a pose's family, `expression`
    and `view` are names of the drawing's, `scene` is a kind of scene or `white`; each is told at some
    times only.
    """
    if rng is None:
        return _write_list(character)
    if rng.random() < 0.08:
        return _write_list(character)
    head, clothes = _choose_things(character, rng)
    telling = _Telling(
        person=_name_person(character, rng),
        pronoun=_choose_pronouns(character)[1],
        head=head,
        clothes=clothes,
        asides=_choose_asides(rng, pose, expression, view, scene),
    )
    join = rng.choices((_join_list, _join_with, _join_tags, _join_sentences), (4, 4, 1.5, 1))[0]
    text = join(telling, rng)
    if rng.random() < 0.25:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.25:
        text = f"{text.rstrip('.')}, {', '.join(rng.sample(SUFFIXES, rng.randint(1, 2)))}"
    if rng.random() < 0.1:
        text = text.rstrip(".") + "."
    return text


def write_change(character: Character, changed: Character, attribute: str, rng: random.Random) -> str:
    """A short prompt that asks for what `attribute` is in `changed`.

    It is an order over a reference picture of `character`, and says little else.
    """
    thing = _name_changed(character, changed, attribute, rng)
    if thing is None:
        lost = getattr(character, attribute)
        return _ask_without(character, attribute, lost, rng)
    worn = attribute.split("_")[0] in ("hat", "glasses", *_CLOTHES)
    him, he = _choose_pronouns(changed)
    person = _name_person(changed, rng)
    forms = [f"with {thing}", f"{thing.words}", f"{_choose_article(person)} {person} with {thing}"]
    forms += [f"the same character with {thing}", f"same person but with {thing}", f"{person}, {thing.words}"]
    if worn:
        forms += [f"wearing {thing}"] * 3 + [f"in {thing}", f"now wearing {thing}", f"{he} wears {thing}"]
        forms += [f"{_choose_article(person)} {person} wearing {thing}", f"put {him} in {thing}"]
    else:
        forms += [f"with {thing}", f"now with {thing}", f"give {him} {thing}", f"{he} has {thing}"]
    return rng.choice(forms)


def write_negative(character: Character, rng: random.Random) -> str:
    """The negative prompt that turns away from pictures of this character: usual flaws, which say
    nothing of the picture, and some of what the character has."""
    words = rng.sample(DISLIKES, rng.choice((0, 1, 2, 3, 4, 6, 9, 12)))
    words += rng.sample(_list_had(character, rng), rng.choice((0, 1, 1, 2, 3)))
    if rng.random() < 0.3:
        rng.shuffle(words)
    return ", ".join(words)


def _write_list(character: Character) -> str:
    head = [_name_thing(character, key, None) for key in _HEAD]
    clothes = [_name_thing(character, key, None) for key in _CLOTHES]
    told = [thing for thing in head if thing is not None]
    eyes = next(index for index, thing in enumerate(told) if thing.words.endswith("eyes"))
    pair = f"{told[eyes].words} and {told[eyes + 1]}"
    words = [thing.words for thing in told[:eyes]] + [pair] + [thing.words for thing in told[eyes + 2 :]]
    worn = [thing for thing in clothes if thing is not None]
    listed = ", ".join([str(worn[0]), *(thing.words for thing in worn[1:-1])])
    wearing = f"wearing {listed}, and {worn[-1].words}"
    return ", ".join([_name_person(character, None), *words, wearing])


def _choose_things(character: Character, rng: random.Random) -> tuple[list[_Thing], list[_Thing]]:
    """What is told of the head and of the clothes: everything, some of it, or a thing or two."""
    detail = rng.choices(("full", "some", "short"), (3, 4, 2.5))[0]
    keys = [*_HEAD, *_CLOTHES]
    if detail == "some":
        share = rng.uniform(0.35, 0.85)
        keys = [key for key in keys if rng.random() < share]
    elif detail == "short":
        # What the eye sees first.
        keys = rng.sample(("hair", "hair", "top", "top", "layer", "bottom", "hat", "glasses", "beard"), 3)
    if rng.random() < 0.3:
        rng.shuffle(keys)
    named = {key: _name_thing(character, key, rng) for key in keys}
    head = [thing for key, thing in named.items() if key in _HEAD and thing is not None]
    clothes = [thing for key, thing in named.items() if key in _CLOTHES and thing is not None]
    return head, clothes


def _choose_asides(
    rng: random.Random, pose: str | None, expression: str | None, view: str | None, scene: str | None
) -> list[str]:
    asides = []
    for name, words, share in (
        (pose, POSE_WORDS, 0.4),
        (expression, EXPRESSION_WORDS, 0.3),
        (view, VIEW_WORDS, 0.2),
        (scene, SCENE_WORDS, 0.35),
    ):
        if name is not None and rng.random() < share:
            asides.append(rng.choice(words[name]))
    return asides


def _join_list(telling: _Telling, rng: random.Random) -> str:
    """young man, beard, light skin, wearing a white t-shirt, blue jeans, and brown boots"""
    words = [thing.words for thing in telling.head]
    if telling.clothes:
        words.append(f"{rng.choice(('wearing', 'wearing', 'in'))} {_enumerate(telling.clothes, rng)}")
    place = rng.choice((0, len(words)))
    return ", ".join([telling.person, *words[:place], *telling.asides, *words[place:]])


def _join_with(telling: _Telling, rng: random.Random) -> str:
    """a young man with a beard and light skin, wearing a white t-shirt and brown boots, waving"""
    article = "the" if rng.random() < 0.3 else _choose_article(telling.person)
    # "a man waving with ..." reads well, "a man front view with ..." does not.
    first = telling.asides[0].split()[0] if telling.asides else ""
    follows = first.endswith("ing") or first in ("with", "in", "at", "on", "from")
    early = telling.asides[:1] if follows and rng.random() < 0.6 else []
    parts = []
    if telling.head:
        parts.append(f"with {_enumerate(telling.head, rng)}")
    if telling.clothes:
        wearing = f"{rng.choice(('wearing', 'in', 'dressed in'))} {_enumerate(telling.clothes, rng)}"
        parts.insert(0 if rng.random() < 0.25 else 1, wearing)
    begin = " ".join([article, telling.person, *early, *parts[:1]])
    return ", ".join([begin, *parts[1:], *telling.asides[len(early) :]])


def _join_tags(telling: _Telling, rng: random.Random) -> str:
    """waving, white t-shirt, young man, brown hair"""
    words = [telling.person, *(thing.words for thing in telling.head + telling.clothes), *telling.asides]
    rng.shuffle(words)
    return ", ".join(words)


def _join_sentences(telling: _Telling, rng: random.Random) -> str:
    """a young man, waving. he has a beard and brown eyes. he wears a white t-shirt and blue jeans."""
    sentences = [", ".join([f"{_choose_article(telling.person)} {telling.person}", *telling.asides])]
    if telling.head:
        sentences.append(f"{telling.pronoun} has {_enumerate(telling.head, rng)}")
    if telling.clothes:
        verb = rng.choice(("wears", "is wearing", "is dressed in"))
        sentences.append(f"{telling.pronoun} {verb} {_enumerate(telling.clothes, rng)}")
    return ". ".join(sentences) + "."


def _enumerate(things: Sequence[_Thing], rng: random.Random) -> str:
    # "a red hat, a white shirt and blue jeans" as well as "a red hat, white shirt, and blue jeans".
    later = str if rng.random() < 0.6 else (lambda thing: thing.words)
    words = [str(things[0]), *(later(thing) for thing in things[1:])]
    if len(words) == 1:
        return words[0]
    join = (
        rng.choice((" and ", ", and ", ", ", " with "))
        if len(words) == 2
        else rng.choice((", and ", " and "))
    )
    return ", ".join(words[:-1]) + join + words[-1]


def _name_person(character: Character, rng: random.Random | None) -> str:
    person = _vary(character.person, rng)
    build = BUILD_WORDS.get(character.build)
    if build is None or (rng is not None and rng.random() < 0.6):
        return person
    return f"{_vary(build, rng)} {person}"


def _name_thing(character: Character, key: str, rng: random.Random | None) -> _Thing | None:
    """What the character has of that kind; None for nothing."""
    match key:
        case "beard":
            return _Thing(_vary(character.beard, rng), counted=True) if character.beard else None
        case "skin":
            return _Thing(_vary(f"{character.skin} skin", rng))
        case "face":
            return _Thing(_vary(f"{character.face} face", rng), counted=True)
        case "eyes":
            size = _vary(character.eye_size, rng)
            colour = _vary(character.eye_colour, rng, CLOTH_COLOUR_WORDS)
            sized = rng is None or rng.random() < 0.6
            return _Thing(f"{size} {colour} eyes" if sized else f"{colour} eyes")
        case "hair":
            return _name_hair(character, rng)
        case "glasses":
            return _Thing(_vary(character.glasses, rng)) if character.glasses else None
        case "hat":
            return _name_hat(character, rng) if character.hat else None
        case "layer":
            return _name_layer(character, rng) if character.layer else None
        case "top":
            return _name_cloth(character.top, character.top_colour, character.top_pattern, rng)
        case "bottom" | "shoes" | "accessory":
            name = getattr(character, key)
            return _name_cloth(name, getattr(character, COLOURED[key]), "plain", rng) if name else None
    raise ValueError(f"a character has no {key!r}")


def _name_hair(character: Character, rng: random.Random | None) -> _Thing:
    if character.hair == "bald":
        return _Thing(_vary("bald head", rng), counted=True)
    colour = _vary(character.hair_colour, rng, HAIR_COLOUR_WORDS)
    patterns = HAIRDOS[character.hair]
    words, counted = patterns[0] if rng is None or rng.random() < 0.6 else rng.choice(patterns)
    if rng is not None and rng.random() < 0.15:
        # One of the two is enough.
        return _Thing(f"{colour} hair")
    return _Thing(words.format(colour=colour), counted)


def _name_hat(character: Character, rng: random.Random | None) -> _Thing:
    name = character.hat
    if rng is not None and name in FOREHEAD_HATS and rng.random() < 0.2:
        name = "hat"
    return _name_cloth(name, character.hat_colour, "plain", rng)


def _name_layer(character: Character, rng: random.Random | None) -> _Thing:
    opened = character.layer == "shirt" and character.layer_pattern == "plain"
    cloth = _name_cloth(character.layer, character.layer_colour, character.layer_pattern, rng)
    if opened or (rng is not None and rng.random() < 0.15):
        return _Thing(f"open {cloth.words}", counted=True)
    return cloth


def _name_cloth(name: str, colour: str, pattern: str, rng: random.Random | None) -> _Thing:
    words = [_vary(colour, rng, CLOTH_COLOUR_WORDS)]
    if pattern != "plain":
        words.append(_vary(pattern, rng))
    elif rng is not None and rng.random() < 0.04:
        words.insert(0, "plain")
    if rng is not None:
        if len(words) > 1 and rng.random() < 0.25:
            words.reverse()
        if rng.random() < 0.12:
            words.pop(rng.randrange(len(words)))
    return _Thing(" ".join([*words, _vary(name, rng)]), counted=name not in _PLURALS)


def _name_changed(
    character: Character, changed: Character, attribute: str, rng: random.Random
) -> _Thing | None:
    """What an order asks for; None where something is to go.

    Of kind, colour and pattern it tells what is asked for, and what the reference does not show.
    """
    key, _, aspect = attribute.partition("_")
    told = rng.random() < 0.6
    if attribute in ("skin", "beard", "glasses"):
        return _name_thing(changed, attribute, rng)
    if key == "hair":
        colour = _vary(changed.hair_colour, rng, HAIR_COLOUR_WORDS)
        if changed.hair == "bald":
            return _name_hair(changed, rng)
        if aspect == "colour" and not told:
            return _Thing(f"{colour} hair")
        words, counted = rng.choice(HAIRDOS[changed.hair])
        if aspect == "" and not told and character.hair != "bald":
            colour = ""
        return _Thing(" ".join(words.format(colour=colour).split()), counted)
    name = getattr(changed, key)
    if not name:
        return None
    colour, pattern = getattr(changed, COLOURED[key]), getattr(changed, f"{key}_pattern", "plain")
    worn = bool(getattr(character, key))
    same_colour = worn and colour == getattr(character, COLOURED[key])
    same_pattern = worn and pattern == getattr(character, f"{key}_pattern", "plain")
    words = []
    if told or not same_colour:
        words.append(_vary(colour, rng, CLOTH_COLOUR_WORDS))
    if (not same_pattern and (pattern != "plain" or worn)) or (same_pattern and told and pattern != "plain"):
        words.append(_vary(pattern, rng))
    if len(words) > 1 and rng.random() < 0.3:
        words.reverse()
    if attribute.startswith("layer") and name == "shirt" and pattern == "plain":
        words.insert(0, "open")
    return _Thing(" ".join([*words, _vary(name, rng)]), counted=name not in _PLURALS)


def _ask_without(character: Character, attribute: str, lost: str, rng: random.Random) -> str:
    name = _vary(lost, rng)
    counted = _Thing(name, counted=lost not in _PLURALS and "glasses" not in lost)
    person = _name_person(character, rng)
    forms = [f"no {name}", f"without {counted}", f"{person} without {counted}", f"{person}, no {name}"]
    forms += [f"the same character without {counted}"]
    if attribute == "beard":
        forms += ["clean-shaven", f"clean-shaven {person}", "without facial hair"]
    elif attribute == "hat":
        forms += ["no hat", "bareheaded", "without a hat"]
    elif attribute == "layer":
        forms += [f"not wearing {counted}", f"{character.top_colour} {character.top} only"]
    return rng.choice(forms)


def _list_had(character: Character, rng: random.Random) -> list[str]:
    """What the character has, each in a few words, as negative prompts name things."""
    things = (_name_thing(character, key, rng) for key in (*_HEAD, *_CLOTHES))
    had = [thing.words for thing in things if thing is not None]
    had += [
        value for value in (character.top, character.bottom, character.shoes, character.accessory) if value
    ]
    if character.beard:
        had += ["beard", "facial hair"]
    if character.glasses:
        had += ["glasses", "eyewear"]
    if character.hat:
        had += ["hat", "headwear"]
    if character.layer:
        had += ["jacket", "open jacket"]
    if character.is_old:
        had.append("old")
    if character.is_child:
        had.append("child")
    if character.hair == "bald":
        had.append("bald")
    return had


def _choose_article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _choose_pronouns(character: Character) -> tuple[str, str]:
    return ("her", "she") if character.is_female else ("him", "he")


def _vary(word: str, rng: random.Random | None, synonyms: dict[str, tuple[str, ...]] = SYNONYMS) -> str:
    if rng is None or word not in synonyms or rng.random() > _SYNONYM_SHARE:
        return word
    return rng.choice(synonyms[word])
