"""A tiny image classifier of the same classes as the default one, with random weights.

They are large enough that black and white pictures are told apart; which of them counts as `nsfw` is
chance, and asked of the network itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

BLACK, WHITE = 0x000000, 0xFFFFFF


@dataclass(frozen=True)
class TinyClassifier:
    """The checkpoint's folder, and the probabilities of `nsfw` that its network gives black and white."""

    folder: Path
    black: float
    white: float

    @property
    def threshold(self) -> float:
        """Half-way between the two."""
        return (self.black + self.white) / 2

    @property
    def blocked_colour(self) -> int:
        """The colour (RGB, 24 bits) that is above the threshold: as a seed, what the null engine paints."""
        return BLACK if self.black > self.white else WHITE

    @property
    def harmless_colour(self) -> int:
        """The other one."""
        return BLACK ^ WHITE ^ self.blocked_colour


def write_classifier(folder: Path) -> TinyClassifier:
    """Write the network and how its pictures are prepared."""
    torch.manual_seed(0)
    network = ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
            initializer_range=0.5,
            id2label={0: "normal", 1: "nsfw"},
            label2id={"normal": 0, "nsfw": 1},
        )
    )
    network.eval().save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    # Pixels from 0 to 255 become -1 to 1.
    scores = [score_shade(network, shade) for shade in (-1.0, 1.0)]
    assert abs(scores[0] - scores[1]) > 0.5
    return TinyClassifier(folder, *scores)


def score_shade(network: ViTForImageClassification, shade: float) -> float:
    """The probability of `nsfw` for a flat picture, from its pixels as the network takes them."""
    with torch.no_grad():
        normal, nsfw = network(torch.full((1, 3, 32, 32), shade)).logits[0].tolist()
    return 1 / (1 + 2.718281828459045 ** (normal - nsfw))
