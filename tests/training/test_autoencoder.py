"""The autoencoder of drawings: what it promises a pipeline, and its training."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from training.toon import networks
from training.toon.crops import draw_crop, make_picture, stack_entries
from training.toon.reconstruction import cut_pieces, fit_patches, measure_reconstruction, prepare_crops
from training.toon.renderer import draw
from training.toon.train_autoencoder import make_trainer, read_predictions, take_step

from understudy.engines.toon_autoencoder import ToonAutoencoder, mix_cells

CANVAS, SIDE, PATCH = 64, 32, 4


def make_small():
    torch.manual_seed(3)
    return ToonAutoencoder(
        latent_channels=8,
        decoder_channels=(16, 16, 16),
        decoder_blocks=(1, 1, 1),
        encoder_channels=(8, 16),
        colours=2,
    )


@pytest.fixture(scope="module")
def batch():
    entries = [draw_crop(seed, SIDE, PATCH, CANVAS) for seed in range(6)]
    return prepare_crops(stack_entries(entries), torch.device("cpu"))


@pytest.fixture
def fitted(batch):
    autoencoder = make_small()
    fit_patches(autoencoder, batch.canvases)
    return autoencoder


@torch.no_grad()
def test_it_decodes_at_four_times_the_canvas(fitted):
    latents = fitted.encode(torch.rand(2, 3, 12, 20) * 2 - 1)
    assert latents.shape == (2, 8, 3, 5)
    assert fitted.decode(latents).sample.shape == (2, 3, 48, 80)
    assert torch.equal(fitted.decode(latents, return_dict=False)[0], fitted.decode(latents).sample)
    assert fitted.decode_preview(latents).shape == (2, 3, 12, 20)


def test_a_pipeline_reads_its_scale_from_its_config():
    config = ToonAutoencoder().config
    assert 2 ** (len(config.block_out_channels) - 1) == networks.PATCH
    assert config.scaling_factor == 1
    assert not config.force_upcast


@torch.no_grad()
def test_saved_and_loaded_it_draws_the_same(fitted, batch, tmp_path):
    fitted.save_pretrained(tmp_path)
    loaded = ToonAutoencoder.from_pretrained(tmp_path)
    latents = fitted.encode(batch.canvases)
    assert torch.equal(loaded.encode(batch.canvases), latents)
    assert torch.equal(loaded.decode(latents).sample, fitted.decode(latents).sample)


@torch.no_grad()
def test_without_training_its_latents_are_standardised_and_its_sketch_is_alike(fitted, batch):
    latents = fitted.encode(batch.canvases)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    error = (fitted.decode_preview(latents) - batch.canvases).square().mean()
    assert error < 0.1 * batch.canvases.var()


@torch.no_grad()
def test_statistics_that_are_folded_in_leave_pictures_as_they_are(fitted, batch):
    before = fitted.decode(fitted.encode(batch.canvases)).sample
    fitted.set_statistics(3 * fitted.encode(batch.canvases) + 1)
    latents = fitted.encode(batch.canvases)
    assert latents.std() < 0.5
    assert torch.allclose(fitted.decode(latents).sample, before, atol=1e-4)


def test_a_cell_mixes_its_colours_in_the_proportions_of_each_pixel():
    logits = torch.zeros(2, 16)
    logits[0, 5] = logits[1, 6] = 15.0
    colours = torch.tensor([[0.5, 0.0, 0.0], [0.0, -0.5, 0.0]])
    cells = torch.cat([logits.flatten(), colours.flatten()]).view(1, -1, 1, 1)
    sketch = torch.full((1, 3, 1, 1), 0.25)
    picture = mix_cells(cells, sketch)
    assert picture.shape == (1, 3, 4, 4)
    assert torch.allclose(picture[0, :, 1, 1], torch.tensor([0.75, 0.25, 0.25]), atol=1e-4)
    assert torch.allclose(picture[0, :, 1, 2], torch.tensor([0.25, -0.25, 0.25]), atol=1e-4)
    assert torch.allclose(picture[0, :, 3, 3], torch.tensor([0.5, 0.0, 0.25]), atol=1e-4)


def test_a_piece_is_of_its_picture():
    entry = draw_crop(7, SIDE, PATCH, CANVAS)
    whole = draw(*make_picture(7), 4 * CANVAS, 4 * CANVAS).picture
    top, left = 4 * PATCH * entry["places"]
    piece = whole[top : top + 4 * SIDE, left : left + 4 * SIDE].astype(int)
    # The edges of a shape may be rounded otherwise in a window.
    assert (abs(entry["truths"] - piece) > 2).mean() < 0.01
    wanted = torch.arange(64.0).view(1, 1, 8, 8)
    assert cut_pieces(wanted, torch.tensor([[2, 3]]), 2).flatten().tolist() == [19, 20, 27, 28]


def test_training_lowers_the_loss_and_makes_better_pictures(fitted, batch, tmp_path):
    before = copy.deepcopy(fitted)
    trainer = make_trainer(fitted, tmp_path, learning_rate=1e-2, steps=80, warm_up_steps=5)
    losses = []
    for _ in range(80):
        with torch.no_grad():
            losses.append(float(trainer.network(batch)[0]))
        take_step(trainer, batch, seed=0)
    assert losses[-1] < 0.95 * losses[0]
    entry = draw_crop(2, CANVAS, PATCH, CANVAS)
    wholes = stack_entries([entry | {"heads": entry["places"]}])
    after, ours = measure_reconstruction(fitted, wholes), measure_reconstruction(before, wholes)
    assert after["psnr 0.0"] > ours["psnr 0.0"]
    assert after["psnr 0.5"] > ours["psnr 0.5"] + 0.2


def test_it_resumes_where_it_was(fitted, batch, tmp_path):
    trainer = make_trainer(fitted, tmp_path, learning_rate=5e-3, steps=8)
    for _ in range(4):
        take_step(trainer, batch, seed=1)
    trainer.save()
    for _ in range(2):
        take_step(trainer, batch, seed=1)
    again = make_trainer(make_small(), tmp_path, learning_rate=5e-3, steps=8)
    assert again.resume()
    for _ in range(2):
        take_step(again, batch, seed=1)
    wanted = trainer.network.state_dict()
    assert all(torch.equal(weight, wanted[name]) for name, weight in again.network.state_dict().items())
    with trainer.averaged() as one, again.averaged() as other:
        assert torch.equal(one.autoencoder.decoder.leave.weight, other.autoencoder.decoder.leave.weight)


def test_predictions_train_the_decoder_alone(fitted, tmp_path):
    file = tmp_path / "predicted.safetensors"
    seeds = [11, 12, 13]
    save_file({"latents": torch.ones(3, 8, 16, 16).half(), "seeds": torch.tensor(seeds)}, file)
    predicted, picture_seeds = read_predictions(file)
    assert picture_seeds == seeds
    entries = [draw_crop(seed, SIDE, PATCH, CANVAS, picture_seeds) for seed in (3, 4)]
    assert [int(entry["rows"]) for entry in entries] == [0, 1]
    assert (entries[1]["canvases"] == draw(*make_picture(12), CANVAS, CANVAS).picture).all()
    batch = prepare_crops(stack_entries(entries), torch.device("cpu"), predicted)
    trainer = make_trainer(fitted, tmp_path, learning_rate=5e-3, steps=3, decoder_only=True)
    before = copy.deepcopy(fitted)
    loss, figures = trainer.network(batch)
    batch.predicted = None
    assert trainer.network(batch)[0] != loss
    assert "spread" not in figures
    take_step(trainer, batch, seed=0)
    assert all(
        torch.equal(one, other)
        for one, other in zip(fitted.encoder.parameters(), before.encoder.parameters(), strict=True)
    )
    assert not torch.equal(fitted.decoder.enter.weight, before.decoder.enter.weight)
