"""What is held out is not seen by any training."""

import pytest
from training.toon import poses
from training.toon.crops import draw_crop
from training.toon.groups import draw_figure, draw_group
from training.toon.poses import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from training.toon.samples import draw_sample
from training.toon.tokenizer import make_tokenizer
from training.toon.train_encoders import write_prompts


@pytest.mark.parametrize(
    ("draw", "times"),
    [
        (lambda seed: draw_sample(seed, width=64, height=64), 60),
        (lambda seed: draw_crop(seed, 16, 8, 64), 80),
        (lambda seed: draw_group(seed, 48), 40),
        (lambda seed: draw_figure(seed, 48), 80),
        (lambda seed: write_prompts(make_tokenizer(), 400, str(seed)), 1),
    ],
    ids=["denoiser", "autoencoder", "image encoder", "detector", "text encoder"],
)
def test_no_training_draws_a_pose_of_a_held_out_family(draw, times, monkeypatch):
    families = []
    make = poses.Pose

    def record(*arguments, **fields):
        pose = make(*arguments, **fields)
        families.append(pose.family)
        return pose

    monkeypatch.setattr(poses, "Pose", record)  # what every pose is made of, whoever asks for it
    for seed in range(times):
        draw(seed)
    assert len(set(families)) > 25
    assert set(families) <= set(TRAINING_FAMILIES)
    assert not set(families) & set(HELD_OUT_FAMILIES)
