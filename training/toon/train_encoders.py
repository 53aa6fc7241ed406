"""Pre-train an encoder: `python -m training.toon.train_encoders text --minutes 10`, or `image`.

Cheap beside the denoiser, which then need only learn to paint. Each encoder has a folder of its own
in `--folder` for its checkpoint and log; the encoders themselves lie in `--folder`, in a
pipeline's layout.

The denoiser changes the image encoder. `identity --model FOLDER` afterwards trains what it leaves
alone, the layer after the states that it reads: what tells characters apart. It goes into a folder of
its own (`build/toon/identity`), and begins anew, in a new one, when the denoiser has gone on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy
import torch
from torch import nn
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection

from understudy.engines.checkpoint import LIKENESS_FILE

from .attributes import NONE, answer_attributes
from .captions import write_caption, write_change
from .character import EXPRESSIONS, change_character, make_character
from .encoders import (
    build_image_encoder,
    build_text_encoder,
    list_identity_weights,
    load_image_encoder,
    save_image_encoder,
    save_text_encoder,
    tokenize,
)
from .groups import GROUP, Arrays, draw_group, draw_lineup, join_arrays, join_groups
from .measures import measure_identity, measure_prompts, measure_reading
from .muon import Muon
from .pool import HELD_OUT_SEED
from .poses import VIEWS, make_pose
from .pretraining import IdentityTraining, ImagePretraining, TextPretraining, prepare_pictures
from .sitting import begin, count_time, find_step_seed, learn_from_pool
from .tokenizer import make_tokenizer
from .trainer import BUILD, Trainer, add_training_options

_ORDER_SHARE = 0.35
"""Of the prompts that the text encoder learns from: orders that change one thing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _read_options(arguments)
    device = begin(options)
    if options.encoder == "text":
        train_text(options, device)
    elif options.encoder == "image":
        train_image(ImagePretraining(build_image_encoder()).to(device), options)
    else:
        train_image(IdentityTraining(freeze_states(load_image_encoder(options.model))).to(device), options)


def train_text(options: argparse.Namespace, device: torch.device) -> None:
    """Train the text encoder on captions and orders that are made up as it goes."""
    tokenizer = make_tokenizer()
    trainer = start_trainer(TextPretraining(build_text_encoder(tokenizer)).to(device), options)

    def keep(prompts: int) -> None:
        trainer.save()
        with trainer.averaged() as network:
            trainer.log("held out", measure_prompts(network, tokenizer, prompts, HELD_OUT_SEED))
            save_text_encoder(network.encoder, tokenizer, options.folder)

    for is_time_to_measure in count_time(trainer, options):
        learn_prompts(trainer, tokenizer, options.batch, options.seed)
        if is_time_to_measure():
            keep(options.measured)
            trainer.rest()
    keep(5 * options.measured)


def freeze_states(encoder: CLIPVisionModelWithProjection) -> CLIPVisionModelWithProjection:
    """The encoder, of whose weights only those learn that the states before the last layer do not need."""
    encoder.requires_grad_(False)
    for weight in list_identity_weights(encoder):
        weight.requires_grad_(True)
    return encoder


def train_image(network: IdentityTraining, options: argparse.Namespace) -> None:
    """Train an image encoder on groups of drawings."""
    side = network.encoder.config.image_size
    trainer = start_trainer(network, options)
    groups = join_arrays(
        [draw_group(HELD_OUT_SEED + number, side) for number in range(options.measured // GROUP)]
    )
    lineups = [draw_lineup(HELD_OUT_SEED + number, side) for number in range(options.lineups)]

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            reads = isinstance(network, ImagePretraining)
            read = measure_reading(network, groups) if reads else {}
            told = measure_identity(network, lineups)
            trainer.log("held out", read | told)
            save_image_encoder(network.encoder, options.folder)
            floor = {"floor": told["cosine_strangers"]}
            (options.folder / LIKENESS_FILE).write_text(json.dumps(floor) + "\n")

    learn_from_pool(
        trainer,
        options,
        partial(draw_group, side=side),
        lambda taken: learn_pictures(trainer, join_groups(taken), options.seed),
        keep,
        count=options.batch // GROUP,
    )


def learn_prompts(trainer: Trainer, tokenizer: CLIPTokenizer, count: int, seed: int) -> None:
    """Take a step on prompts that seed and step decide."""
    token_ids, answers = write_prompts(tokenizer, count, f"{seed} {trainer.step}")
    with trainer.in_precision():
        loss, figures = trainer.network(token_ids.to(trainer.device), answers.to(trainer.device))
    trainer.descend(loss, figures)


def learn_pictures(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed(find_step_seed(seed, trainer.step))
    with trainer.in_precision():
        loss, figures = trainer.network(prepare_pictures(arrays, trainer.device, generator))
    trainer.descend(loss, figures)


def write_prompts(tokenizer: CLIPTokenizer, count: int, seed: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (n, 77) of prompts, and the answers (n, 26) of whom they tell of.

    A prompt leaves most things out: then the answer is a guess, and the encoder learns how likely
    each is.
    """
    rng = random.Random(seed)
    texts, answers = [], []
    for _ in range(count):
        character = make_character(rng)
        if rng.random() < _ORDER_SHARE:
            changed, attribute = change_character(character, rng)
            texts.append(write_change(character, changed, attribute, rng))
            answers.append((*answer_attributes(changed), NONE, NONE))
        else:
            pose, expression = make_pose(rng), rng.choice(EXPRESSIONS)
            text = write_caption(character, rng, pose=pose.family, expression=expression, view=pose.view)
            texts.append(text)
            shown = (EXPRESSIONS.index(expression), VIEWS.index(pose.view))
            answers.append((*answer_attributes(character), *shown))
    return tokenize(tokenizer, texts), torch.from_numpy(numpy.array(answers))


def start_trainer(network: nn.Module, options: argparse.Namespace) -> Trainer:
    """A trainer of a network with an `encoder`, gone on with where its folder has a checkpoint."""
    network.train()
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    inside = {id(weight) for weight in network.encoder.parameters() if weight.ndim == 2}
    inside -= {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    trainer = Trainer(
        network,
        options.folder / f"{options.encoder}_training",
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        optimizer=Muon(
            learning,
            lr=options.learning_rate,
            plain=[weight for weight in learning if id(weight) not in inside],
        ),
    )
    if options.compile:
        network.encoder.compile(dynamic=False)
    resumed = trainer.resume(frozen_are_given=options.encoder == "identity")
    trainer.log("start", {"resumed": resumed, "batch": options.batch, "device": str(trainer.device)})
    return trainer


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", choices=("text", "image", "identity"))
    parser.add_argument(
        "--model",
        type=Path,
        default=BUILD / "denoiser" / "networks",
        help="where the image encoder is whose identities are trained",
    )
    add_training_options(parser, None, batch=32, learning_rate=2e-3, pool=8000, refresh=4.0)
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings or prompts")
    parser.add_argument("--lineups", type=int, default=50, help="held-out characters to find among 50")
    options = parser.parse_args(arguments)
    if options.folder is None:
        options.folder = BUILD / ("identity" if options.encoder == "identity" else "encoders")
    return options


if __name__ == "__main__":
    main()
