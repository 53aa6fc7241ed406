from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from training.toon.encoders import (
    build_image_encoder,
    build_text_encoder,
    encode_pictures,
    encode_texts,
    load_image_encoder,
    load_text_encoder,
    save_image_encoder,
    save_text_encoder,
    tokenize,
)
from training.toon.groups import draw_group, draw_lineup, join_arrays
from training.toon.measures import measure_identity, measure_prompts, measure_reading
from training.toon.pretraining import IdentityTraining, ImagePretraining, TextPretraining, prepare_pictures
from training.toon.readers import contrast_identities
from training.toon.tokenizer import make_tokenizer
from training.toon.train_encoders import freeze_states, learn_pictures, learn_prompts, write_prompts
from training.toon.trainer import Trainer
from transformers import AutoImageProcessor, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

SIDE = 64


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def groups():
    return join_arrays([draw_group(seed, SIDE) for seed in range(4)])


def _build_image_pretraining():
    torch.manual_seed(0)
    return ImagePretraining(build_image_encoder(width=32, layers=2, heads=2, side=SIDE, patch=16))


def _build_text_pretraining(tokenizer):
    torch.manual_seed(0)
    return TextPretraining(build_text_encoder(tokenizer, width=32, layers=2, heads=2))


def _make_trainer(network: nn.Module, folder: Path, steps: int = 60) -> Trainer:
    optimizer = torch.optim.AdamW(network.parameters())
    return Trainer(
        network.train(), folder, optimizer=optimizer, learning_rate=5e-3, steps=steps, warm_up_steps=5
    )


def test_the_image_encoder_learns_what_it_is_asked(groups, tmp_path):
    trainer = _make_trainer(_build_image_pretraining(), tmp_path)
    still = prepare_pictures(groups, trainer.device)
    with torch.no_grad():
        before = trainer.network(still)[1]
    for _ in range(60):
        learn_pictures(trainer, groups, 0)
    with trainer.averaged() as network:
        after = network(still)[1]
    for name, loss in after.items():
        assert loss < before[name], name
    assert after["state_answers"] < 0.8 * before["state_answers"]
    assert after["thumbnails"] < 0.7 * before["thumbnails"]


def test_the_text_encoder_learns_what_it_is_asked(tokenizer, tmp_path):
    trainer = _make_trainer(_build_text_pretraining(tokenizer), tmp_path, steps=40)
    token_ids, answers = write_prompts(tokenizer, 16, "held out")
    with torch.no_grad():
        before = trainer.network(token_ids, answers)[0]
    for _ in range(40):
        learn_prompts(trainer, tokenizer, 16, 0)
    with trainer.averaged() as network:
        assert network(token_ids, answers)[0] < 0.85 * before


def test_a_training_that_is_resumed_goes_on_exactly(tokenizer, groups, tmp_path):
    for name, build, learn in (
        ("image", _build_image_pretraining, lambda trainer: learn_pictures(trainer, groups, 0)),
        (
            "text",
            lambda: _build_text_pretraining(tokenizer),
            lambda trainer: learn_prompts(trainer, tokenizer, 4, 0),
        ),
    ):
        straight = _make_trainer(build(), tmp_path / name / "straight", steps=6)
        for _ in range(6):
            learn(straight)
        first = _make_trainer(build(), tmp_path / name / "resumed", steps=6)
        for _ in range(3):
            learn(first)
        first.save()
        second = _make_trainer(build(), tmp_path / name / "resumed", steps=6)
        assert second.resume()
        for _ in range(3):
            learn(second)
        for one, other in zip(straight.network.parameters(), second.network.parameters(), strict=True):
            assert torch.equal(one, other)
        with straight.averaged(), second.averaged():
            for one, other in zip(straight.network.parameters(), second.network.parameters(), strict=True):
                assert torch.equal(one, other)


def test_saved_encoders_are_read_by_the_standard_classes(tokenizer, groups, tmp_path):
    text, image = _build_text_pretraining(tokenizer).encoder, _build_image_pretraining().encoder
    save_text_encoder(text.eval(), tokenizer, tmp_path)
    save_image_encoder(image.eval(), tmp_path)
    assert next(text.parameters()).dtype == torch.float32, "what is trained stays as it is"
    for folder, cls in (
        ("text_encoder_2", CLIPTextModelWithProjection),
        ("image_encoder", CLIPVisionModelWithProjection),
    ):
        loaded, info = cls.from_pretrained(tmp_path / folder, dtype=torch.float16, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert next(loaded.parameters()).dtype == torch.float16
    ours, its_tokenizer = load_text_encoder(tmp_path)
    ids = tokenize(its_tokenizer, ["young man with a red hat", ""])
    assert torch.equal(ids, tokenize(tokenizer, ["young man with a red hat", ""]))
    with torch.no_grad():
        states, pooled = encode_texts(ours, ids)
        expected_states, expected_pooled = encode_texts(text, ids)
        assert states.shape == (2, 77, 32)
        assert torch.allclose(states, expected_states, atol=5e-3)
        assert torch.allclose(pooled, expected_pooled, atol=5e-3)
        pixels = AutoImageProcessor.from_pretrained(tmp_path / "feature_extractor")(
            Image.fromarray(groups["pictures"][0]), return_tensors="pt"
        ).pixel_values
        assert torch.allclose(pixels, prepare_pictures(groups, torch.device("cpu")).pictures[:1], atol=1e-5)
        tokens, identity = encode_pictures(load_image_encoder(tmp_path), pixels)
        assert tokens.shape == (1, 1 + (SIDE // 16) ** 2, 32)
        assert identity.norm().item() == pytest.approx(1)


def test_prompts_come_with_the_answers_that_they_tell(tokenizer):
    ids, answers = write_prompts(tokenizer, 32, "a seed")
    again, _ = write_prompts(tokenizer, 32, "a seed")
    assert torch.equal(ids, again)
    assert ids.shape == (32, 77)
    assert answers.shape == (32, 26)
    orders = answers[:, -1] == -1
    assert 0 < orders.sum() < 32


def test_two_drawings_of_a_character_find_each_other():
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    right = torch.eye(2)[[0, 0, 1, 1]]
    wrong = torch.eye(2)[[0, 1, 0, 1]]
    sharpness = torch.tensor(10.0)
    assert contrast_identities(right, same, ~same, sharpness) < 0.01
    assert contrast_identities(wrong, same, ~same, sharpness) > 5
    # Where nothing can tell them apart, there is nothing to learn.
    assert contrast_identities(wrong, same, torch.zeros_like(same), sharpness) == 0


def test_measures_are_right_for_an_encoder_that_knows(tokenizer, groups):
    network = _build_image_pretraining().eval()
    figures = measure_reading(network, groups)
    assert 0 <= figures["answers"] <= 1
    assert figures["colour_error"] > 0
    lineups = [draw_lineup(seed, SIDE, others=3) for seed in range(4)]
    for lineup in lineups:
        # Its own picture is the very same one: nothing can be nearer.
        for array in lineup.values():
            array[1] = array[0]
    found = measure_identity(network, lineups)
    assert found["identity"] == found["identity_told"] == 1
    assert found["cosine_itself"] == pytest.approx(1, abs=1e-3)
    prompts = measure_prompts(_build_text_pretraining(tokenizer).eval(), tokenizer, 8, seed=5)
    assert 0 <= prompts["orders"] <= 1


def test_identities_learn_beside_states_that_stay(tmp_path):
    """The denoiser reads the states: they must not change after it."""
    encoder = freeze_states(build_image_encoder(width=48, layers=2, side=64))
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    drawings = join_arrays([draw_group(seed, 64) for seed in range(2)])
    learning = [weight for weight in encoder.parameters() if weight.requires_grad]
    trainer = _make_trainer(IdentityTraining(encoder), tmp_path, steps=3)
    pictures = prepare_pictures(drawings, torch.device("cpu")).pictures
    with torch.no_grad():
        states, identities = encode_pictures(encoder, pictures)
    for _ in range(3):
        learn_pictures(trainer, drawings, seed=0)
    with torch.no_grad():
        states_after, identities_after = encode_pictures(encoder, pictures)
    assert torch.equal(states, states_after)
    assert (identities - identities_after).abs().max() > 1e-3
    changed = {name for name, weight in encoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert len(changed) == len(learning)
    trainer.save()
    assert _make_trainer(IdentityTraining(encoder), tmp_path, steps=3).resume(frozen_are_given=True)
    other = freeze_states(build_image_encoder(width=48, layers=2, side=64))
    with pytest.raises(SystemExit, match="another network"):
        _make_trainer(IdentityTraining(other), tmp_path, steps=3).resume(frozen_are_given=True)
