import random
import re
from dataclasses import replace

import pytest
from training.toon.captions import write_caption, write_change, write_negative
from training.toon.character import EXPRESSIONS, EYE_COLOURS, change_character, make_character
from training.toon.poses import FAMILIES, VIEWS
from training.toon.scene import SCENES
from training.toon.wording import EXPRESSION_WORDS, HAIRDOS, POSE_WORDS, SCENE_WORDS, VIEW_WORDS

CHARACTERS = [make_character(random.Random(seed)) for seed in range(300)]
STUDENT = replace(
    CHARACTERS[0],
    person="young man", build="average", skin="light", face="round", eye_colour="brown", eye_size="large",
    hair="wavy", hair_colour="brown", beard="beard", glasses="", hat="", top="t-shirt", top_colour="white",
    top_pattern="plain", layer="shirt", layer_colour="red", layer_pattern="plaid", bottom="jeans",
    bottom_colour="blue", shoes="boots", shoes_colour="brown", accessory="",
)  # fmt: skip


def test_the_full_caption_has_the_words_of_the_reference_prompt():
    assert write_caption(STUDENT) == (
        "young man, beard, light skin, round face, large brown eyes and wavy brown hair, wearing a white "
        "t-shirt, red plaid shirt, blue jeans, and brown boots"
    )


def test_the_full_caption_tells_characters_apart():
    told = {}
    for character in CHARACTERS:
        told.setdefault(write_caption(character), []).append(character)
    assert len(told) == len(CHARACTERS)


def test_the_full_caption_tells_every_change():
    for seed, character in enumerate(CHARACTERS):
        changed, attribute = change_character(character, random.Random(seed))
        assert write_caption(changed) != write_caption(character), attribute


def test_captions_vary_and_are_the_same_for_a_seed():
    captions = {write_caption(STUDENT, random.Random(seed)) for seed in range(300)}
    assert len(captions) > 270
    assert write_caption(STUDENT, random.Random(3)) == write_caption(STUDENT, random.Random(3))
    lengths = sorted(len(caption) for caption in captions)
    assert lengths[20] < 60
    assert lengths[-20] > 150


def test_captions_say_nothing_that_is_not_so():
    absent = {
        "glasses": "glasses|spectacles|shades",
        "beard": "beard|moustache|goatee",
        "hat": r"\b(hat|cap|beanie|headband)\b",
        "layer": "jacket|vest|coat|cardigan",
        "accessory": r"scarf|tie\b|backpack|rucksack",
    }
    for seed, character in enumerate(CHARACTERS * 3):
        caption = write_caption(character, random.Random(seed))
        for attribute, words in absent.items():
            if not getattr(character, attribute):
                assert not re.search(words, caption), caption
        colours = {value for name, value in vars(character).items() if name.endswith("_colour")}
        for colour in ("yellow", "green", "teal", "purple", "pink", "navy", "grey"):
            assert colour in colours or not re.search(rf"\b{colour}\b", caption), caption


def test_asides_are_told_at_some_times():
    asides = {"pose": "wave", "expression": "happy", "view": "back", "scene": "beach"}
    captions = [write_caption(STUDENT, random.Random(seed), **asides) for seed in range(400)]
    for words in (POSE_WORDS["wave"], EXPRESSION_WORDS["happy"], VIEW_WORDS["back"], SCENE_WORDS["beach"]):
        share = sum(any(word in caption for word in words) for caption in captions) / len(captions)
        assert 0.1 < share < 0.6, words
    assert {*FAMILIES, "free"} == {*POSE_WORDS}
    assert {*EXPRESSIONS} == {*EXPRESSION_WORDS}
    assert {*SCENES, "white"} == {*SCENE_WORDS}
    assert {*VIEWS} == {*VIEW_WORDS}


def test_articles_fit_their_words():
    for seed, character in enumerate(CHARACTERS):
        rng = random.Random(seed)
        changed, attribute = change_character(character, rng)
        for text in (
            write_caption(character),
            write_caption(character, rng),
            write_change(character, changed, attribute, rng),
        ):
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\ba an?\b|  |,,|\.,|\{|^,|, $", text), text


def test_a_change_is_a_short_order_for_what_is_new():
    for seed in range(1500):
        rng = random.Random(seed)
        character = make_character(rng)
        changed, attribute = change_character(character, rng)
        order = write_change(character, changed, attribute, rng)
        assert len(order) < 80
        assert order == order.lower()
        if not getattr(changed, attribute):
            assert re.search(r"\b(no|not|without|only|bareheaded)\b|clean-shaven", order), order


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("hair_colour", "pink", "pink"),
        ("hair", "mohawk", "mohawk"),
        ("hat", "top hat", "hat"),
        ("top", "hoodie", "hood"),
        ("bottom_colour", "black", "black"),
        ("layer_colour", "purple", "purple|violet"),
        ("top_pattern", "striped", "stripe|stripy"),
        ("glasses", "sunglasses", "sunglasses|dark glasses|shades"),
        ("skin", "dark", "dark|black"),
    ],
)
def test_a_change_names_its_value(attribute, value, words):
    changed = replace(STUDENT, **{attribute: value})
    for seed in range(60):
        order = write_change(STUDENT, changed, attribute, random.Random(seed))
        assert re.search(words, order), order


def test_a_thing_that_the_reference_lacks_is_asked_for_with_its_colour():
    changed = replace(STUDENT, hat="beanie", hat_colour="purple")
    bald = replace(STUDENT, hair="bald")
    for seed in range(60):
        assert re.search("purple|violet", write_change(STUDENT, changed, "hat", random.Random(seed)))
        assert re.search("brown|chestnut", write_change(bald, STUDENT, "hair", random.Random(seed)))


def test_negative_prompts_name_what_the_character_has_among_usual_flaws():
    negatives = []
    for seed, character in enumerate(CHARACTERS * 3):
        negative = write_negative(character, random.Random(seed))
        negatives.append(negative)
        words = negative.split(", ")
        for word, thing in (
            ("beard", character.beard),
            ("glasses", character.glasses),
            ("hat", character.hat),
            ("jacket", character.layer),
            ("child", character.is_child),
        ):
            assert thing or word not in words, negative
        for colour in set(EYE_COLOURS) - {character.eye_colour}:
            assert f"{colour} eyes" not in words
    assert "" in negatives
    for word in ("blurry", "hat", "beard", "glasses", "jeans"):
        assert any(word in negative.split(", ") for negative in negatives), word


def test_every_hair_style_has_words_for_its_colour():
    for style, wordings in HAIRDOS.items():
        assert all("{colour}" in words for words, _ in wordings), style
