"""How alike the characters in two pictures are."""

from __future__ import annotations

import torch


def score_likeness(first: torch.Tensor, second: torch.Tensor, floor: float) -> float:
    """Likeness from 0 to 1 of two identity embeddings of unit length, each (channels,).

    likeness = max(0, (cosine - floor) / (1 - floor)): the cosine of the embeddings of CLIP's
    vision encoder (the CLIP-I measure of Ruiz et al., "DreamBooth", CVPR 2023), stretched so
    that `floor`, the cosine of pictures of different characters, becomes 0 and the same
    picture 1. It compares looks; it does not tell who somebody is.
    """
    cosine = float(torch.dot(first, second))
    return min(1.0, max(0.0, (cosine - floor) / (1 - floor)))
