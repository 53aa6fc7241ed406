"""Predictions: latents as a denoiser draws them, for the autoencoder to learn from."""

import torch
from safetensors.torch import load_file
from training.toon.denoiser import Denoiser
from training.toon.encoders import build_image_encoder, build_text_encoder
from training.toon.lessons import Lessons
from training.toon.predict import predict_latents, save_predictions
from training.toon.samples import draw_sample
from training.toon.tokenizer import make_tokenizer
from training.toon.train_denoiser import load_denoiser, save_networks

from understudy.engines.toon_autoencoder import ToonAutoencoder


def test_what_is_predicted_depends_on_the_denoiser_that_was_saved(tmp_path):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    lessons = Lessons(ToonAutoencoder().eval(), tokenizer, seed=0, device=torch.device("cpu"))
    denoiser = Denoiser(build_text_encoder(tokenizer), build_image_encoder(layers=2)).eval()
    samples = [draw_sample(seed, changed_share=0.0) for seed in (1, 2)]
    before = predict_latents(denoiser, lessons, samples, seed=4)
    assert before.shape == (2, 32, 16, 16)
    assert torch.isfinite(before).all()
    save_networks(denoiser, lessons, tmp_path)
    loaded, _ = load_denoiser(tmp_path)
    after = predict_latents(loaded, lessons, samples, seed=4)
    # The encoders are kept in half precision.
    assert (after - before).abs().mean() < 0.02 * before.abs().mean()
    assert not torch.equal(before, predict_latents(loaded, lessons, samples, seed=5))
    save_predictions(tmp_path / "latents.safetensors", [before, after], seeds=[1, 2, 1, 2])
    kept = load_file(tmp_path / "latents.safetensors")
    assert torch.equal(kept["latents"], torch.cat([before, after]).half())
    assert kept["seeds"].tolist() == [1, 2, 1, 2]
