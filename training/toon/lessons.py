"""What the denoiser learns from, as tensors: samples that pools keep, encoded as they are taken.

Encoding each time costs a tenth of a step, and lets references differ each time they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy
import torch
from transformers import CLIPTokenizer

from understudy.engines.toon_autoencoder import ToonAutoencoder

from .attributes import NONE, hide_unseen, measure_parts
from .augmentation import Augmentation, augment
from .augmentation import Batch as Drawings
from .denoiser import Conditions
from .encoders import tokenize
from .networks import PICTURE_PATCH
from .pool import HELD_OUT_SEED, Entry, Pool
from .poses import HELD_OUT_FAMILIES
from .samples import CAPTIONS, SHAPES, UNCHANGED, draw_sample, read_texts
from .trainer import in_precision

_REFERENCE_CHANGES = Augmentation(zoom=(0.85, 1.3), shift=0.08, turn=5, tint=0.05, plain=0.0)


@dataclass(frozen=True)
class Drops:
    """How often what is left out, so that every condition works without the others.

    Guidance turns away from what is drawn with neither reference nor prompt, or with a negative prompt
    alone: these are what is left of `reference`.
    """

    reference: float = 0.18
    text_without_reference: float = 0.45
    negative_without_reference: float = 0.25
    text: float = 0.08
    empty_text: float = 0.12
    skeleton: float = 0.08


@dataclass
class Batch:
    """Lessons as tensors: `latents` and `parts` to learn, and what they are drawn by.

    `answers` (n, 24) are the attributes that the references show, -1 where they show none;
    `pictures` (n, 3, h, w), -1 to 1, are what was encoded.
    """

    latents: torch.Tensor
    parts: torch.Tensor
    conditions: Conditions
    answers: torch.Tensor
    pictures: torch.Tensor


class Samples:
    """Samples without end, of all shapes. Used as a context: the processes that draw end with it."""

    def __init__(self, count: int, *, workers: int, refresh: float, seed: int) -> None:
        """`count` samples are kept, of all shapes together, and `refresh` of them replaced a second;
        each shape has a process at the least."""
        self._pools = {
            shape: Pool(
                partial(draw_sample, width=shape[0], height=shape[1]),
                max(1, round(share * count)),
                workers=max(1, round(share * workers)),
                refresh=share * refresh,
                seed=seed + number,
            )
            for number, (shape, share) in enumerate(SHAPES.items())
        }

    def __enter__(self) -> Self:
        for pool in self._pools.values():
            pool.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for pool in self._pools.values():
            pool.close()

    def wait(self, share: float) -> None:
        """Wait until that share of the samples is drawn."""
        for pool in self._pools.values():
            pool.wait(share)

    def take(self, rng: numpy.random.Generator, count: int, shape: tuple[int, int]) -> Entry:
        """Samples of one of the `SHAPES`, at random."""
        return self._pools[shape].take(rng, count)


class Lessons:
    """Makes lessons of samples."""

    def __init__(
        self,
        autoencoder: ToonAutoencoder,
        tokenizer: CLIPTokenizer,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """`seed` decides how references are changed."""
        self.device = device
        self.tokenizer = tokenizer
        self.autoencoder = autoencoder
        self._generator = torch.Generator(device).manual_seed(seed)
        self._empty_prompt = tokenize(tokenizer, [""], device)

    def teach(self, samples: Entry, rng: numpy.random.Generator, drops: Drops) -> Batch:
        """Lessons of samples, with things left out and references changed at random."""
        count = len(samples["picture"])
        captions = samples["captions"][numpy.arange(count), rng.integers(CAPTIONS, size=count)]
        samples["skeleton_picture"][rng.random(count) < drops.skeleton] = 0
        alone = rng.random(count) < drops.reference
        told = rng.random(count)
        negative = alone & (told >= 1 - drops.negative_without_reference)
        captions[negative] = samples["negative"][negative]
        # A reference that shows something else needs the prompt that says so.
        leaves_out = ~alone & (samples["changed"] == UNCHANGED)
        empty = leaves_out & (told < drops.empty_text)
        untold = leaves_out & ~empty & (told < drops.empty_text + drops.text)
        return self._encode(
            samples,
            captions,
            empty=empty,
            text_given=~(untold | (alone & (told < drops.text_without_reference))),
            reference_given=~alone,
            generator=self._generator,
        )

    def show(self, drawn: Sequence[Entry]) -> Batch:
        """Lessons of samples of one shape, nothing left out and nothing changed."""
        samples = {name: numpy.stack([sample[name] for sample in drawn]) for name in drawn[0]}
        every = numpy.ones(len(drawn), bool)
        return self._encode(
            samples, samples["captions"][:, 0], empty=~every, text_given=every, reference_given=every
        )

    def hold_out(self, count: int) -> Batch:
        """Lessons of characters and poses that training never sees."""
        return self.show(
            [
                draw_sample(HELD_OUT_SEED + number, families=HELD_OUT_FAMILIES, changed_share=0.0)
                for number in range(count)
            ]
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents, -1 to 1, as large as those that were encoded."""
        pictures = [self.autoencoder.decode(one[None].float(), return_dict=False)[0] for one in latents]
        size = [PICTURE_PATCH * side for side in latents.shape[2:]]
        return torch.nn.functional.interpolate(torch.cat(pictures), size=size, mode="area")

    @torch.no_grad()
    def _encode(
        self,
        samples: Entry,
        captions: numpy.ndarray,
        *,
        empty: numpy.ndarray,
        text_given: numpy.ndarray,
        reference_given: numpy.ndarray,
        generator: torch.Generator | None = None,
    ) -> Batch:
        pictures = self._read_pixels(samples["picture"])
        parts = torch.from_numpy(samples["reference_parts"]).to(self.device)
        nowhere = torch.zeros(len(parts), 18, 3, device=self.device)
        shown = Drawings(self._read_pixels(samples["reference"]), parts, nowhere)
        if generator is not None:
            shown = augment(shown, _REFERENCE_CHANGES, generator)
        answers = torch.from_numpy(samples["reference_answers"]).to(self.device).long()
        answers = hide_unseen(answers, measure_parts(shown.parts))
        given, bare = (torch.from_numpy(which).to(self.device) for which in (reference_given, empty))
        token_ids = tokenize(self.tokenizer, read_texts(captions), self.device)
        conditions = Conditions(
            token_ids=torch.where(bare[:, None], self._empty_prompt, token_ids),
            text_given=torch.from_numpy(text_given).to(self.device, torch.float32),
            references=torch.where(given[:, None, None, None], shown.pictures, 0.0),
            skeletons=(self._read_pixels(samples["skeleton_picture"]) + 1) / 2,
        )
        with in_precision(self.device):
            latents = self.autoencoder.encode(pictures).float()
        return Batch(
            latents=latents,
            parts=torch.from_numpy(samples["parts"]).to(self.device).long(),
            conditions=conditions,
            answers=torch.where(given[:, None], answers, NONE),
            pictures=pictures,
        )

    def _read_pixels(self, pictures: numpy.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(pictures).to(self.device, non_blocking=True)
        pixels = tensor.permute(0, 3, 1, 2).float() / 127.5 - 1
        return pixels.contiguous(memory_format=torch.channels_last)
