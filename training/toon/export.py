"""Put the trained parts together as a checkpoint: `python -m training.toon.export`.

The result is a folder in the diffusers layout, in half precision, that the engine loads like any
SDXL checkpoint. It refuses to write one that is too large to be committed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from understudy.engines.checkpoint import DETECTOR_FOLDER, LIKENESS_FILE
from understudy.engines.toon_autoencoder import ToonAutoencoder

from .encoders import list_identity_weights, load_image_encoder, load_text_encoder, make_image_processor
from .networks import IP_ADAPTER, LATENTS, digest_latents, make_scheduler
from .trainer import BUILD

LARGEST_FILE = 15_000_000
LARGEST_WHOLE = 40_000_000
"""Bytes that a file of the repository, and the checkpoint as a whole, may have."""

_PLACES = ("_name_or_path", "is_local", "local_files_only")


def main() -> None:
    """Export as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--denoiser", type=Path, default=BUILD / "denoiser" / "networks")
    parser.add_argument("--autoencoder", type=Path, default=BUILD / "decoder" / "model")
    parser.add_argument("--image-encoder", type=Path, default=BUILD / "identity")
    parser.add_argument("--detector", type=Path, default=BUILD / "detector" / "model")
    parser.add_argument("--folder", type=Path, default=BUILD / "checkpoint")
    options = parser.parse_args()
    try:
        export(options.denoiser, options.autoencoder, options.image_encoder, options.detector, options.folder)
    except ValueError as error:
        sys.exit(str(error))
    for path in sorted(options.folder.rglob("*.safetensors")):
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path.relative_to(options.folder)}")


def export(
    denoiser: Path, autoencoder_folder: Path, image_encoder_folder: Path, detector: Path, folder: Path
) -> None:
    """Write the checkpoint `folder`, in place of what was there.

    `denoiser` has unet, controlnet, ip_adapter and the text encoder with its tokenizer; the image
    encoder is that of `image_encoder_folder`, where its identities were trained; the autoencoder's
    decoder may have gone on learning after the denoiser.

    Raises:
        ValueError: the parts do not belong together, or a file or the whole is larger than the
            repository takes.
    """
    text_encoder, tokenizer = load_text_encoder(denoiser)
    image_encoder = load_image_encoder(image_encoder_folder)
    if not see_alike(image_encoder, load_image_encoder(denoiser)):
        raise ValueError(f"{image_encoder_folder} was trained beside another denoiser; train identities anew")
    autoencoder = ToonAutoencoder.from_pretrained(autoencoder_folder)
    if digest_latents(autoencoder) != (denoiser / LATENTS).read_text().strip():
        raise ValueError(f"{autoencoder_folder} does not decode the latents that {denoiser} draws")
    if not (image_encoder_folder / LIKENESS_FILE).exists():
        raise ValueError(f"no identities were trained in {image_encoder_folder}")
    if not (detector / "config.json").exists():
        raise ValueError(f"there is no detector in {detector}")
    pipeline = StableDiffusionXLControlNetPipeline(
        vae=autoencoder,
        text_encoder=None,
        text_encoder_2=text_encoder,
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel.from_pretrained(denoiser / "unet"),
        controlnet=ControlNetModel.from_pretrained(denoiser / "controlnet"),
        scheduler=make_scheduler(),
        feature_extractor=make_image_processor(image_encoder.config.image_size),
        image_encoder=image_encoder,
        add_watermarker=False,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        pipeline.to(dtype=torch.float16)
        pipeline.save_pretrained(fresh, max_shard_size="14MB")
        (fresh / IP_ADAPTER).parent.mkdir()
        halved = {name: tensor.half() for name, tensor in load_file(denoiser / IP_ADAPTER).items()}
        save_file(halved, fresh / IP_ADAPTER)
        shutil.copytree(detector, fresh / DETECTOR_FOLDER)
        shutil.copy(image_encoder_folder / LIKENESS_FILE, fresh)
        _forget_places(fresh)
        _check_sizes(fresh)
        _open_to_all(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def see_alike(first: CLIPVisionModelWithProjection, second: CLIPVisionModelWithProjection) -> bool:
    """Whether two image encoders have the same states: all but what identities alone are made by."""
    own = {id(weight) for weight in list_identity_weights(first)}
    others = second.state_dict()
    return all(
        torch.equal(weight, others[name])
        for name, weight in first.named_parameters()
        if id(weight) not in own
    )


def _forget_places(folder: Path) -> None:
    """Take out of the configurations where on this machine their networks came from."""
    for path in folder.rglob("*.json"):
        fields = json.loads(path.read_text())
        kept = {name: value for name, value in fields.items() if name not in _PLACES}
        if kept != fields:
            path.write_text(json.dumps(kept, indent=2) + "\n")


def _check_sizes(folder: Path) -> None:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    if sizes[largest] > LARGEST_FILE:
        raise ValueError(f"{largest.name} has {sizes[largest]} bytes; at most {LARGEST_FILE} are committed")
    if sum(sizes.values()) > LARGEST_WHOLE:
        raise ValueError(f"the checkpoint has {sum(sizes.values())} bytes; at most {LARGEST_WHOLE} do")


def _open_to_all(folder: Path) -> None:
    """Let everybody read what was made in a folder for temporary files."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
