"""The tokenizer of the embedded model: CLIP's, with the few tokens that captions of characters need.

python -m training.toon.tokenizer --folder build/toon/tokenizer
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTokenizer

from understudy.pose.table import ENTRIES

from . import wording
from .captions import write_caption, write_change, write_negative
from .character import EXPRESSIONS, change_character, make_character
from .poses import VIEWS, make_pose
from .scene import SCENES

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
"""The longest prompt, the tokens of its begin and end included; longer ones are cut."""

_MOST_MERGES = 1150
_CHARACTERS = 2000
# How often the rarest words are read: enough that each of them becomes one token.
_REPEATS = 20


def make_tokenizer() -> CLIPTokenizer:
    """The tokenizer, always the same one.

    Its tokens are laid out as CLIP's (Radford et al. 2021, arXiv 2103.00020): the 256 bytes,
    within and at the end of a word, so that any text can be told; then pieces of words, the most
    frequent first, learned from captions (byte pair encoding, Sennrich et al. 2016, arXiv
    1508.07909); then begin and end.
    """
    bytewise = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _learn_merges()
    tokens = [*bytewise, *(f"{letter}</w>" for letter in bytewise), *(a + b for a, b in merges), BEGIN, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _learn_merges() -> list[tuple[str, str]]:
    backend = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        # More than are kept: not all of the 512 that come first are seen by the trainer.
        vocab_size=_MOST_MERGES + 512,
        special_tokens=[BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator(_write_texts(), trainer)
    return [(first, second) for first, second in json.loads(backend.to_str())["model"]["merges"]][
        :_MOST_MERGES
    ]


def _write_texts() -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(_CHARACTERS):
        character = make_character(rng)
        changed, attribute = change_character(character, rng)
        yield write_caption(character)
        yield write_caption(
            character,
            rng,
            pose=make_pose(rng).family,
            expression=rng.choice(EXPRESSIONS),
            view=rng.choice(VIEWS),
            scene=rng.choice(SCENES),
        )
        yield write_change(character, changed, attribute, rng)
        yield write_negative(character, rng)
    yield from (entry.description for entry in ENTRIES)
    for _ in range(_REPEATS):
        for words in (wording.POSE_WORDS, wording.SCENE_WORDS, wording.VIEW_WORDS, wording.SYNONYMS):
            yield from (text for texts in words.values() for text in texts)
        yield from (*wording.PREFIXES, *wording.SUFFIXES, *wording.DISLIKES)


def main() -> None:
    """Write the tokenizer into a folder."""
    parser = argparse.ArgumentParser(description="Make the tokenizer of the embedded model.")
    parser.add_argument("--folder", type=Path, default=Path("build/toon/tokenizer"))
    folder = parser.parse_args().folder
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    print(f"{len(tokenizer)} tokens in {folder}")


if __name__ == "__main__":
    main()
