"""Train the denoiser: `python -m training.toon.train_denoiser --minutes 600`.

The autoencoder is trained before and stays as it is. Both encoders are trained before as well and go
on learning, slowly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.utils.logging import set_verbosity_error
from PIL import Image
from torch.nn import functional
from transformers import CLIPTokenizer

from understudy.engines.toon_autoencoder import ToonAutoencoder

from .denoiser import Denoiser
from .encoders import load_image_encoder, load_text_encoder, save_image_encoder, save_text_encoder
from .lessons import Batch, Drops, Lessons, Samples
from .muon import Muon
from .networks import (
    IP_ADAPTER,
    LATENTS,
    add_ip_adapter,
    digest_latents,
    load_ip_adapter_weights,
    save_ip_adapter,
    strip_ip_adapter,
)
from .samples import choose_shape
from .sitting import begin, count_time, find_step_seed
from .team import add_processes_option, number_process, wait_for_all, work_together
from .trainer import BUILD, Trainer, add_training_options

MEASURE_EVERY_MINUTES = 15
"""Training minutes from one sample grid and checkpoint to the next."""
ENCODERS_RATE_SHARE = 0.4
"""Of the learning rate: what the encoders get."""
MEASURED_STEPS = (999, 900, 700, 400, 100)
"""The denoising steps at which the held-out error is told."""


def main() -> None:
    """Train as the command line says."""
    work_together(train, _read_options())


def train(options: argparse.Namespace) -> None:
    """Train in this process, which may be one of a team."""
    set_verbosity_error()
    if options.processes > 1 and not options.threads:
        options.threads = 1
    device = begin(options)
    text_encoder, tokenizer = load_text_encoder(options.encoders)
    denoiser = Denoiser(text_encoder, load_image_encoder(options.encoders))
    denoiser.requires_grad_(True).to(device).train()
    trainer = Trainer(
        denoiser,
        options.folder,
        learning_rate=options.learning_rate,
        minutes=options.minutes,
        average_decay=options.average_decay,
        optimizer=choose_optimizer(denoiser, options.learning_rate),
    )
    resumed = trainer.resume()
    if options.compile:
        denoiser.compile_networks()
    seed = find_step_seed(options.seed + number_process(), trainer.step)
    lessons = Lessons(
        ToonAutoencoder.from_pretrained(options.autoencoder).eval().to(device),
        tokenizer,
        seed=seed,
        device=device,
    )
    samples = Samples(
        options.pool // options.processes,
        workers=options.workers,
        refresh=options.refresh / options.processes,
        seed=seed,
    )
    told = {"batch": options.batch, "processes": options.processes, "device": str(device)}
    trainer.log("start", {"resumed": resumed, **told})
    examples = lessons.hold_out(12)
    generator = torch.Generator().manual_seed(seed)
    rng = numpy.random.default_rng(seed)
    # A team takes batches of one shape at a time, which take equally long.
    shapes = numpy.random.default_rng(trainer.step)
    with samples:
        samples.wait(0.05)
        for is_time_to_measure in count_time(trainer, options):
            batch = lessons.teach(samples.take(rng, options.batch, choose_shape(shapes)), rng, Drops())
            with trainer.in_precision(), torch.compiler.set_stance(choose_stance(batch)):
                loss, figures = denoiser.measure_loss(
                    batch.latents, batch.parts, batch.conditions, batch.answers, generator
                )
            trainer.descend(loss, figures)
            if is_time_to_measure():
                measure(trainer, lessons, examples)
    measure(trainer, lessons, examples)


def choose_optimizer(denoiser: Denoiser, learning_rate: float) -> Muon:
    """Muon for what lies between the first and the last layers, AdamW for those, and slowly for the
    encoders, which can read and see already."""
    outside = ("conv_in", "conv_out", "embedding", "part_head", "time_proj", "reader")
    fresh = {
        name: weight
        for name, weight in denoiser.named_parameters()
        if not name.startswith(("text_encoder.", "image_encoder."))
    }
    plain = [weight for name, weight in fresh.items() if any(part in name for part in outside)]
    optimizer = Muon(fresh.values(), lr=learning_rate, plain=plain)
    trained_before = [*denoiser.text_encoder.parameters(), *denoiser.image_encoder.parameters()]
    optimizer.add_param_group(
        {"params": trained_before, "orthogonal": False, "rate_share": ENCODERS_RATE_SHARE}
    )
    return optimizer


def choose_stance(batch: Batch) -> str:
    """torch.compile's stance for a batch: only square ones are common enough to be compiled for."""
    return "default" if batch.latents.shape[2] == batch.latents.shape[3] else "force_eager"


def measure(trainer: Trainer, lessons: Lessons, examples: Batch) -> None:
    """Write checkpoint, weights, a grid of held-out samples and their errors; the others wait."""
    if number_process() == 0:
        _write_progress(trainer, lessons, examples)
    wait_for_all()
    trainer.rest()


def _write_progress(trainer: Trainer, lessons: Lessons, examples: Batch) -> None:
    trainer.save()
    with trainer.averaged() as denoiser, trainer.in_precision():
        errors = measure_errors(denoiser, examples)
        trainer.log("held out", errors)
        draw_grid(denoiser, lessons, examples, trainer.folder / f"grid_{trainer.step:07d}.png")
        save_networks(denoiser, lessons, trainer.folder / "networks")


@torch.no_grad()
def measure_errors(denoiser: Denoiser, examples: Batch) -> dict[str, float]:
    """The mean square error of held-out latents at some denoising steps, with all conditions."""
    noise = torch.randn(examples.latents.shape, generator=torch.Generator().manual_seed(1))
    errors = {}
    for step in MEASURED_STEPS:
        steps = torch.full((len(noise),), step, device=examples.latents.device)
        noisy = denoiser.add_noise(examples.latents, steps, noise.to(examples.latents.device))
        predicted = denoiser(noisy, steps, denoiser.encode(examples.conditions))[0]
        errors[f"error at {step}"] = round(float((predicted - examples.latents).square().mean()), 4)
    return errors


def draw_grid(denoiser: Denoiser, lessons: Lessons, examples: Batch, path: Path) -> None:
    """Rows: reference, skeleton, truth; drawn by all, by the prompt and by the reference alone."""
    shape = examples.latents.shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(examples.latents.device)
    everything = examples.conditions
    nothing = everything.without_reference().without_text()
    rows = [everything.references, 2 * everything.skeletons - 1, examples.pictures]
    for conditions in (everything, everything.without_reference(), everything.without_text()):
        rows.append(lessons.decode(denoiser.sample(conditions, nothing, noise)))
    side = 192
    cells = [functional.interpolate(row.float(), size=(side, side), mode="area") for row in rows]
    sheet = torch.stack(cells).clamp(-1, 1).permute(0, 3, 1, 4, 2).reshape(side * len(rows), -1, 3)
    Image.fromarray(((sheet + 1) * 127.5).byte().cpu().numpy()).save(path)


def save_networks(denoiser: Denoiser, lessons: Lessons, folder: Path) -> None:
    """Write the networks as diffusers and transformers lay them out, in full precision, and which
    latents they draw."""
    strip_ip_adapter(denoiser.unet).save_pretrained(folder / "unet")
    denoiser.controlnet.save_pretrained(folder / "controlnet")
    save_ip_adapter(denoiser.unet, folder / IP_ADAPTER)
    save_text_encoder(denoiser.text_encoder, lessons.tokenizer, folder)
    save_image_encoder(denoiser.image_encoder, folder)
    (folder / LATENTS).write_text(digest_latents(lessons.autoencoder) + "\n")


def load_denoiser(folder: Path) -> tuple[Denoiser, CLIPTokenizer]:
    """The denoiser that `save_networks` wrote, and its tokenizer."""
    text_encoder, tokenizer = load_text_encoder(folder)
    denoiser = Denoiser(text_encoder, load_image_encoder(folder))
    denoiser.unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    add_ip_adapter(denoiser.unet, load_ip_adapter_weights(folder / IP_ADAPTER))
    denoiser.controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
    for network in (denoiser.unet, denoiser.controlnet):
        network.to(memory_format=torch.channels_last)
    return denoiser.eval().requires_grad_(False), tokenizer


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_training_options(
        parser,
        "denoiser",
        batch=32,
        learning_rate=2e-3,
        pool=12_000,
        refresh=8.0,
        measure_every=MEASURE_EVERY_MINUTES,
    )
    add_processes_option(parser)
    parser.add_argument("--autoencoder", type=Path, default=BUILD / "autoencoder" / "model")
    parser.add_argument("--encoders", type=Path, default=BUILD / "encoders")
    parser.add_argument("--average-decay", type=float, default=0.999)
    return parser.parse_args()


if __name__ == "__main__":
    main()
