import random

import torch
from training.toon.attributes import (
    ATTRIBUTES,
    COLOUR_KEYS,
    NAMES,
    NONE,
    answer_attributes,
    find_shown_colours,
    hide_unseen,
    measure_parts,
    read_colours,
    tell_apart,
)
from training.toon.character import change_character, make_character
from training.toon.ink import Part


def _answer(name, answers):
    return answers[NAMES.index(name)]


def test_answers_name_what_a_character_has():
    for seed in range(200):
        character = make_character(random.Random(seed))
        answers = answer_attributes(character)
        for name, answer in zip(NAMES, answers, strict=True):
            if answer != NONE:
                assert ATTRIBUTES[name][answer] == getattr(character, name)
        assert (_answer("hat_colour", answers) == NONE) == (not character.hat)
        assert (_answer("layer_pattern", answers) == NONE) == (not character.layer)
        assert (_answer("hair_colour", answers) == NONE) == (character.hair == "bald")


def test_colours_are_in_the_range_of_pictures():
    character = make_character(random.Random(3))
    colours = read_colours(character)
    assert colours.shape == (len(COLOUR_KEYS), 3)
    assert abs(127.5 * (colours[0] + 1) - character.colours["skin"]).max() < 0.001


def test_what_a_picture_does_not_show_has_no_answer():
    character = next(
        made
        for made in (make_character(random.Random(seed)) for seed in range(500))
        if made.hair == "short" and not made.hat and made.layer and not made.accessory
    )
    parts = torch.zeros(1, 100, 100, dtype=torch.uint8)
    parts[0, :20] = Part.HAIR
    parts[0, 20:50] = Part.LAYER
    parts[0, 50, :2] = Part.SHOES
    answers = torch.from_numpy(answer_attributes(character))[None]
    shown = hide_unseen(answers, measure_parts(parts))[0]
    for name in ("hair", "hair_colour", "layer", "layer_colour", "accessory", "hat", "person"):
        assert _answer(name, shown) == _answer(name, answers[0]), name
    # From behind: no face, no shirt below the jacket; two pixels are too few to tell shoes by.
    for name in ("eye_colour", "beard", "glasses", "face", "skin", "top", "top_colour", "bottom", "shoes"):
        assert _answer(name, shown) == NONE, name
    colours = dict(zip(COLOUR_KEYS, find_shown_colours(shown[None])[0].tolist(), strict=True))
    assert [key for key, is_shown in colours.items() if is_shown] == ["hair", "layer"]


def test_characters_are_told_apart_by_what_both_pictures_show():
    character = make_character(random.Random(1))
    changed, name = change_character(character, random.Random(2))
    first, second = (torch.from_numpy(answer_attributes(who)) for who in (character, changed))
    hidden = second.clone()
    hidden[NAMES.index(name)] = NONE
    for column in range(len(NAMES)):
        # Whatever else the change brought with it.
        if hidden[column] != NONE and hidden[column] != first[column]:
            hidden[column] = NONE
    told = tell_apart(torch.stack([first, first, second, hidden]))
    assert told.tolist()[0] == [False, False, True, False]
    assert torch.equal(told, told.T)
