"""Pictures that are not to be drawn from or shown, by an image classifier of the hub.

Any checkpoint that transformers loads for image classification will do. The default,
`Falconsai/nsfw_image_detection`, is a vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929)
with the labels `normal` and `nsfw`, for pictures of 224 x 224. It judges pictures by themselves and
knows nothing of prompts; words are judged in `content_policy/`.
"""

from __future__ import annotations

import logging

import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from ..settings import Settings
from . import EngineError
from .loading import locate

logger = logging.getLogger(__name__)


class PictureClassifier:
    """Tells whether a picture is one of those that are blocked."""

    def __init__(
        self,
        model: torch.nn.Module,
        processor: transformers.BaseImageProcessor,
        *,
        blocked: frozenset[int],
        threshold: float,
    ) -> None:
        """`blocked` are the model's classes that count; `threshold` is from 0 to 1."""
        self._model = model.eval()
        self._processor = processor
        self._blocked = sorted(blocked)
        self._threshold = threshold

    def score(self, picture: Image.Image) -> float:
        """The probability, 0 to 1, that an RGB picture is of a blocked class: softmax, summed over them."""
        pixels = self._processor(picture, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = self._model(pixels.to(self._model.device, self._model.dtype)).logits[0]
        return float(logits.float().softmax(0)[self._blocked].sum())

    def blocks(self, picture: Image.Image) -> bool:
        """Whether the score reaches the threshold."""
        return self.score(picture) >= self._threshold


def load_classifier(settings: Settings, device: str) -> PictureClassifier:
    """Load the classifier that the settings name onto a device.

    Raises:
        EngineError: it cannot be loaded, or has none of the labels (`engine_load_failed`).
    """
    transformers.utils.logging.disable_progress_bar()
    folder = locate(settings, "classifier_model", settings.engine)
    try:
        processor = AutoImageProcessor.from_pretrained(folder)
        model = AutoModelForImageClassification.from_pretrained(folder).to(device)
    except Exception as error:
        logger.warning("loading the picture classifier failed: %s", error, exc_info=error)
        raise EngineError(
            "The picture classifier could not be loaded; check that UNDERSTUDY_CLASSIFIER_MODEL names a "
            "whole folder or hub id (the worker's log tells more).",
            code="engine_load_failed",
        ) from error
    wanted = {label.strip().lower() for label in settings.classifier_labels.split(",")}
    known = {number: label for number, label in model.config.id2label.items() if label.lower() in wanted}
    if wanted - {label.lower() for label in known.values()}:
        raise EngineError(
            "UNDERSTUDY_CLASSIFIER_LABELS names a label that the picture classifier does not have; it has "
            f"{', '.join(model.config.id2label.values())}.",
            code="engine_load_failed",
        )
    return PictureClassifier(
        model, processor, blocked=frozenset(known), threshold=settings.classifier_threshold
    )
