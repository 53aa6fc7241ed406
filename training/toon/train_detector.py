"""Train the detector of drawn characters: `python -m training.toon.train_detector --minutes 40`.

It learns from drawings that are changed more than references are: other lines, shades and colours,
blurred, turned, small and cut off, and some that show nobody.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

from understudy.engines.toon_detector import ToonDetector, decode_heatmaps
from understudy.pose.scores import score_pck
from understudy.pose.skeleton import visible_keypoints

from .augmentation import Augmentation, Batch, augment
from .character import make_character
from .groups import Arrays, join_arrays, join_groups
from .muon import Muon
from .pool import Pool
from .poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES, make_pose
from .renderer import Style, draw, make_shot
from .trainer import Trainer, count_time

HELD_OUT_SEED = 10**9
"""The first seed of what is measured on; training never comes so far."""

CHANGES = Augmentation(
    zoom=(0.6, 1.4), shift=0.15, turn=25.0, tint=0.25, plain=0.15, blurred=0.4, noisy=0.35, recoloured=0.25,
    grey=0.08,
)  # fmt: skip
"""How much the drawings are changed that it learns from."""

_SPREAD = 1.2
"""Standard deviation of the heatmap around a keypoint, in cells."""
_PRESENCE_WEIGHT = 0.5
_NOBODY_SHARE = 0.04
_TILES = 8


class DetectorTraining(nn.Module):
    """The detector and its loss."""

    def __init__(self, detector: ToonDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and its parts for the log."""
        heatmaps, presences = self.detector(batch.pictures)
        shown = batch.skeletons[:, :, 2] > 0
        target = spread_keypoints(batch.skeletons, heatmaps.shape[-1])
        distances = -(target * heatmaps.flatten(2).float().log_softmax(dim=-1)).sum(dim=-1)
        losses = {
            "heatmaps": (distances * shown).sum() / shown.sum().clamp(min=1),
            "presences": functional.binary_cross_entropy_with_logits(presences.float(), shown.float()),
        }
        return losses["heatmaps"] + _PRESENCE_WEIGHT * losses["presences"], losses


def spread_keypoints(skeletons: torch.Tensor, cells: int) -> torch.Tensor:
    """The heatmaps (n, 18, cells * cells) that keypoints (n, 18, 3) in fractions should have: each a
    normal distribution over the cells, its sum 1."""
    middles = torch.arange(cells, device=skeletons.device) + 0.5
    away = cells * skeletons[:, :, :2, None] - middles
    bells = torch.softmax(-(away**2) / (2 * _SPREAD**2), dim=-1)
    return (bells[:, :, 1, :, None] * bells[:, :, 0, None, :]).flatten(2)


def draw_figure(seed: int, side: int, families: Sequence[str] = TRAINING_FAMILIES) -> Arrays:
    """One drawing, (1, ...) each: pictures, parts and skeletons as in `groups.Arrays`."""
    rng = random.Random(seed)
    style = Style(rng.uniform(2.0, 7.0), rng.random() ** 0.5, rng.random())
    shot = make_shot(rng, make_pose(rng, families), style=style)
    drawing = draw(make_character(rng), shot, side, side, parts=True)
    return {
        "pictures": drawing.picture[None],
        "parts": drawing.parts[None],
        "skeletons": (drawing.skeleton / (side, side, 1))[None].astype(numpy.float32),
    }


def prepare_figures(arrays: Arrays, device: torch.device, generator: torch.Generator | None = None) -> Batch:
    """A batch of drawings, changed at random where there is a generator; then some show nobody."""
    pictures = torch.from_numpy(arrays["pictures"]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    batch = Batch(
        pictures.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(arrays["parts"]).to(device),
        torch.from_numpy(arrays["skeletons"]).to(device),
    )
    if generator is None:
        return batch
    batch = augment(batch, CHANGES, generator)
    nobody = torch.rand(len(pictures), generator=generator, device=device) < _NOBODY_SHARE
    shuffled = _shuffle_tiles(batch.pictures, generator)
    return Batch(
        torch.where(nobody[:, None, None, None], shuffled, batch.pictures),
        batch.parts,
        batch.skeletons * ~nobody[:, None, None],
    )


@torch.no_grad()
def measure_detector(detector: ToonDetector, arrays: Arrays) -> dict[str, float]:
    """PCK@0.1 and @0.05 of the torso, the share of presences that are right, and the mean distance
    of keypoints in pixels of 256."""
    device, side = next(detector.parameters()).device, detector.config.side
    close, closer, off, present = [], [], [], []
    for start in range(0, len(arrays["pictures"]), 32):
        batch = prepare_figures({name: array[start : start + 32] for name, array in arrays.items()}, device)
        points, scores = (tensor.cpu().numpy() for tensor in decode_heatmaps(*detector(batch.pictures)))
        for point, score, truth in zip(points, scores, arrays["skeletons"][start:], strict=False):
            shown = visible_keypoints(truth)
            found = numpy.column_stack([side * point, score > 0.5])
            wanted = truth * (side, side, 1)
            close.append(score_pck(found, wanted))
            closer.append(score_pck(found, wanted, threshold=0.05))
            off.append(256 / side * numpy.hypot(*(found - wanted)[shown, :2].T).mean())
            present.append(((score > 0.5) == shown).mean())
    figures = {"pck_0.1": close, "pck_0.05": closer, "pixels_off": off, "presences": present}
    return {name: round(float(numpy.mean(values)), 4) for name, values in figures.items()}


def learn_figures(trainer: Trainer, arrays: Arrays, seed: int) -> None:
    """Take a step on drawings, changed as seed and step decide."""
    generator = torch.Generator(trainer.device).manual_seed(seed + trainer.step)
    with trainer.in_precision():
        loss, figures = trainer.network(prepare_figures(arrays, trainer.device, generator))
    trainer.descend(loss, figures)


def start_trainer(network: DetectorTraining, options: argparse.Namespace) -> Trainer:
    """A trainer of the detector, gone on with where its folder has a checkpoint."""
    network.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last).train()
    outside = ("stem", "head", "position")
    plain = [weight for name, weight in network.named_parameters() if any(part in name for part in outside)]
    trainer = Trainer(
        network,
        options.folder / "training",
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        optimizer=Muon(network.parameters(), lr=options.learning_rate, plain=plain),
    )
    trainer.log("start", {"resumed": trainer.resume(), "batch": options.batch, "device": str(trainer.device)})
    return trainer


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _read_options(arguments)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    detector = ToonDetector()
    side = detector.config.side
    trainer = start_trainer(DetectorTraining(detector), options)
    held_out = {
        name: join_arrays(
            [draw_figure(HELD_OUT_SEED + number, side, families) for number in range(options.measured)]
        )
        for name, families in (("characters", TRAINING_FAMILIES), ("families", HELD_OUT_FAMILIES))
    }

    def keep() -> None:
        trainer.save()
        with trainer.averaged() as network:
            for name, arrays in held_out.items():
                trainer.log(f"held-out {name}", measure_detector(network.detector, arrays))
            deepcopy(network.detector).half().save_pretrained(options.folder / "model")
        trainer.rest()

    rng = numpy.random.default_rng((options.seed, trainer.step))
    draw_one = partial(draw_figure, side=side)
    with Pool(draw_one, options.pool, workers=options.workers, seed=options.seed + trainer.step) as pool:
        pool.wait()
        for is_time_to_measure in count_time(trainer, options.sitting_minutes, options.measure_every):
            learn_figures(trainer, join_groups(pool.take(rng, options.batch)), options.seed)
            if is_time_to_measure():
                keep()
    keep()


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/toon/detector"))
    parser.add_argument("--minutes", type=float, required=True, help="the whole training, all sittings")
    parser.add_argument("--sitting-minutes", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--measure-every", type=float, default=5.0, help="minutes")
    parser.add_argument("--measured", type=int, default=400, help="held-out drawings of each kind")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--pool", type=int, default=16_000, help="drawings that are made and replayed")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--threads", type=int, default=0, help="torch's; 0: its own choice")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def _shuffle_tiles(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The pictures in 8 x 8 tiles, the same ones everywhere out of their places."""
    side = pictures.shape[-1]
    tiles = functional.unfold(pictures, side // _TILES, stride=side // _TILES)
    order = torch.rand(tiles.shape[-1], generator=generator, device=pictures.device).argsort()
    return functional.fold(tiles[..., order], (side, side), side // _TILES, stride=side // _TILES)


if __name__ == "__main__":
    main()
