"""Write latents as the denoiser draws them: `python -m training.toon.predict`.

The autoencoder's decoder then learns from them what it will be given (`train_autoencoder
--predictions`). The denoiser begins at true latents under some noise and draws on from there, so that
what it draws is the picture that it should be, with its own kind of errors.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers.utils.logging import set_verbosity_error
from safetensors.torch import save_file

from understudy.engines.toon_autoencoder import ToonAutoencoder

from .denoiser import Denoiser
from .lessons import Lessons
from .pool import Entry
from .samples import draw_sample
from .sitting import begin, find_step_seed
from .train_denoiser import load_denoiser
from .trainer import BUILD, in_precision

FIRST_SEED = 3 * 10**9
STEPS = 10
_FEWEST_DONE = 2
"""Of the steps: before so many nothing is settled, and what is drawn may be another picture."""
_GUIDANCE_SCALES = (1.5, 3.0, 5.0)


def main() -> None:
    """Predict as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--denoiser", type=Path, default=BUILD / "denoiser" / "networks")
    parser.add_argument("--autoencoder", type=Path, default=BUILD / "autoencoder" / "model")
    parser.add_argument("--file", type=Path, default=BUILD / "predictions.safetensors")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="torch's; 0: its own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw samples")
    options = parser.parse_args()
    set_verbosity_error()
    device = begin(options)
    denoiser, tokenizer = load_denoiser(options.denoiser)
    lessons = Lessons(
        ToonAutoencoder.from_pretrained(options.autoencoder).eval().to(device),
        tokenizer,
        seed=0,
        device=device,
    )
    seeds = list(range(FIRST_SEED, FIRST_SEED + options.count))
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as executor, in_precision(device):
        drawn = executor.map(partial(draw_sample, changed_share=0.0), seeds, chunksize=options.batch)
        latents = [
            predict_latents(denoiser.to(device), lessons, batch, seed=find_step_seed(options.seed, number))
            for number, batch in enumerate(_gather(drawn, options.batch))
        ]
    save_predictions(options.file, latents, seeds)


@torch.no_grad()
def predict_latents(denoiser: Denoiser, lessons: Lessons, samples: list[Entry], seed: int) -> torch.Tensor:
    """The latents (n, channels, h, w) of samples as the denoiser draws them on from a step at random."""
    generator = torch.Generator().manual_seed(seed)
    batch = lessons.show(samples)
    noise = torch.randn(batch.latents.shape, generator=generator).to(lessons.device)
    done = int(torch.randint(_FEWEST_DONE, STEPS, (), generator=generator))
    scale = _GUIDANCE_SCALES[int(torch.randint(len(_GUIDANCE_SCALES), (), generator=generator))]
    return denoiser.sample(
        batch.conditions,
        batch.conditions.without_reference().without_text(),
        noise,
        steps=STEPS,
        guidance_scale=scale,
        begun=(batch.latents, done),
    ).cpu()


def save_predictions(file: Path, latents: list[torch.Tensor], seeds: list[int]) -> None:
    """Write the latents of samples, batches of (n, channels, h, w), beside the samples' seeds."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # A denoiser on a CPU gives them with the channels last, which a file cannot hold.
    save_file({"latents": torch.cat(latents).half().contiguous(), "seeds": torch.tensor(seeds)}, file)


def _gather(drawn: Iterator[Entry], count: int) -> Iterator[list[Entry]]:
    """The samples in batches."""
    batch: list[Entry] = []
    for sample in drawn:
        batch.append(sample)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    main()
