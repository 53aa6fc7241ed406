"""How good the encoders are, on characters that they were not trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy
import torch

from .attributes import ATTRIBUTES, NONE, answer_attributes, find_shown_colours, tell_apart
from .captions import write_caption, write_change
from .character import change_character, make_character
from .encoders import encode_pictures, encode_texts, tokenize
from .groups import Arrays
from .pretraining import ImagePretraining, TextPretraining, prepare_pictures
from .readers import ANSWERS, COLOURS

LINEUP = 50
"""Pictures among which a character is to be found, its own included."""

_AT_ONCE = 64

Figures = dict[str, float]


@torch.no_grad()
def measure_reading(network: ImagePretraining, arrays: Arrays) -> Figures:
    """How often each answer is read rightly where it is shown, from the states and from the pooled
    state, and how far colours are off, of 255."""
    states, pooled, colours, truth, true_colours = [], [], [], [], []
    for batch in _prepare(network, arrays):
        tokens, _ = encode_pictures(network.encoder, batch.pictures)
        read = network.state_reader(tokens)
        states.append(_choose(read))
        pooled.append(_choose(network.pooled_reader(tokens[:, 0])))
        colours.append(torch.stack([read[name] for name in COLOURS], dim=1))
        truth.append(batch.answers)
        true_colours.append(batch.colours)
    answers = torch.cat(truth)
    shown = find_shown_colours(answers)
    off = 127.5 * (torch.cat(colours) - torch.cat(true_colours)).abs().mean(dim=2)
    figures = {"colour_error": round(float(off[shown].mean()), 2)}
    return figures | _measure_answers(torch.cat(states), torch.cat(pooled), answers)


@torch.no_grad()
def measure_identity(network: ImagePretraining, lineups: Sequence[Arrays]) -> Figures:
    """How often a character's other picture is the nearest of 50: itself, those of its lineup, and
    strangers.

    `identity_told` leaves out of each 50 those whose difference one of the two pictures hides.
    The cosines are the means of a character with itself, with those that differ in one
    attribute, and with strangers.
    """
    identities, told = [], []
    for arrays in lineups:
        batches = list(_prepare(network, arrays))
        identities.append(
            torch.cat([encode_pictures(network.encoder, batch.pictures)[1] for batch in batches])
        )
        answers = torch.cat([batch.answers for batch in batches])[:, : len(ATTRIBUTES)]
        told.append(tell_apart(answers)[0, 2:])
    found, found_told, cosines = [], [], []
    for index, (own, can_tell) in enumerate(zip(identities, told, strict=True)):
        strangers = [identities[(index + away) % len(lineups)][1] for away in range(1, len(lineups))]
        count = LINEUP - len(own) + 1
        far = torch.stack(strangers[:count]) @ own[0]
        near = own[2:] @ own[0]
        itself = own[1] @ own[0]
        found.append(bool(itself > torch.cat([near, far]).max()))
        found_told.append(bool(itself > torch.cat([near[can_tell], far]).max()))
        cosines.append([float(value.mean()) for value in (itself, near, far)])
    itself, near, far = numpy.mean(cosines, axis=0)
    return {
        "identity": round(float(numpy.mean(found)), 4),
        "identity_told": round(float(numpy.mean(found_told)), 4),
        "cosine_itself": round(float(itself), 3),
        "cosine_near": round(float(near), 3),
        "cosine_strangers": round(float(far), 3),
    }


@torch.no_grad()
def measure_prompts(network: TextPretraining, tokenizer, count: int, seed: int) -> Figures:
    """How often each answer is read rightly out of whole captions, and what an order changes out of
    the order, from the states and from the pooled embedding."""
    rng = random.Random(seed)
    captions, orders, answers, changed_answers, asked = [], [], [], [], []
    for _ in range(count):
        character = make_character(rng)
        changed, attribute = change_character(character, rng)
        captions.append(write_caption(character))
        orders.append(write_change(character, changed, attribute, rng))
        answers.append(answer_attributes(character))
        changed_answers.append(answer_attributes(changed))
        asked.append(list(ATTRIBUTES).index(attribute))
    states, pooled = _read_texts(network, tokenizer, captions)
    figures = _measure_answers(states, pooled, torch.from_numpy(numpy.stack(answers)))
    rows = torch.arange(count)
    truth = torch.from_numpy(numpy.stack(changed_answers))[rows, asked]
    known = truth != NONE
    for name, read in zip(("orders", "orders_pooled"), _read_texts(network, tokenizer, orders), strict=True):
        figures[name] = round(float((read[rows, asked] == truth)[known].float().mean()), 4)
    return figures


def _read_texts(
    network: TextPretraining, tokenizer, texts: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(network.parameters()).device
    states, pooled = encode_texts(network.encoder, tokenize(tokenizer, list(texts), device))
    return _choose(network.state_reader(states)).cpu(), _choose(network.pooled_reader(pooled)).cpu()


def _measure_answers(states: torch.Tensor, pooled: torch.Tensor, answers: torch.Tensor) -> Figures:
    """The share of right answers: of the states each and their mean, of the pooled state the mean."""
    each, pooled_each = {}, {}
    for index, name in enumerate(list(ANSWERS)[: answers.shape[1]]):
        known = answers[:, index] != NONE
        if known.any():
            each[name] = round(float((states[:, index] == answers[:, index])[known].float().mean()), 4)
            pooled_each[name] = float((pooled[:, index] == answers[:, index])[known].float().mean())
    return {
        "answers": round(float(numpy.mean(list(each.values()))), 4),
        "answers_pooled": round(float(numpy.mean(list(pooled_each.values()))), 4),
        **each,
    }


def _prepare(network: ImagePretraining, arrays: Arrays):
    device = next(network.parameters()).device
    for start in range(0, len(arrays["pictures"]), _AT_ONCE):
        piece = {name: array[start : start + _AT_ONCE] for name, array in arrays.items()}
        yield prepare_pictures(piece, device)


def _choose(values: dict[str, torch.Tensor]) -> torch.Tensor:
    """The likeliest answers, (n, 26)."""
    return torch.stack([values[name].argmax(dim=1) for name in ANSWERS], dim=1)
