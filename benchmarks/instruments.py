"""What pictures are compared with: networks that tell identity and adherence, and a detector of poses.

None of them draws. Each tells what it is, for a figure without its network's name means nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.canvas import square_picture
from understudy.engines.checkpoint import find_checkpoint
from understudy.engines.checkpoint import load_detector as load_toon_detector
from understudy.engines.detector import PoseDetector, is_detector_installed, load_detector
from understudy.errors import UnderstudyError
from understudy.pose.skeleton import Skeleton, measure_body
from understudy.settings import Settings

EMBEDDED = "embedded"
DINO_SIDE = 224
"""DINOv2 and DINOv3 are evaluated at it; patches of 14 and of 16 divide it."""
CROP_MARGIN = 0.08
"""Room around a body's box, of its longer side: hats and hands lie beyond its keypoints."""
DETECTORS = ("auto", "rtmlib", "toon", "none")

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class IdentityNetwork(Protocol):
    """Tells looks as vectors."""

    name: str

    def embed(self, picture: Image.Image) -> NDArray[numpy.float64]:
        """A vector of unit length, (channels,)."""
        ...


class Dino:
    """DINOv2 (Oquab et al., arXiv 2304.07193) or DINOv3 (arXiv 2508.10104): the CLS token's embedding.

    It is the DINO score of Ruiz et al., "DreamBooth" (CVPR 2023), with a later network; pictures are
    made square by padding, so that nothing of a tall figure is cut off.
    """

    def __init__(self, place: str, device: str) -> None:
        """`place` is a local folder or a hub id.

        Raises:
            UnderstudyError: there is no such network, or it is none of these.
        """
        from transformers import AutoModel

        self._model = _load(AutoModel, place, "--identity-model").eval().to(device)
        kind = self._model.config.model_type
        if not kind.startswith("dino"):
            raise UnderstudyError(
                f"--identity-model {place} is a {kind}; give a DINOv2 or DINOv3, or embedded."
            )
        self.name = _name_network(place, self._model)

    @torch.no_grad()
    def embed(self, picture: Image.Image) -> NDArray[numpy.float64]:
        """The CLS token after the last norm, of unit length."""
        pixels = _to_pixels(picture, DINO_SIDE, *_IMAGENET).to(self._model.device)
        return _normalize(self._model(pixel_values=pixels).last_hidden_state[0, 0])


class EmbeddedEncoder:
    """The embedded model's own image encoder: for machines without any other network."""

    name = "the embedded model's own encoder: flatters the embedded model"

    def __init__(self, device: str) -> None:
        """Load it from the installed checkpoint."""
        from transformers import CLIPVisionModelWithProjection

        folder = Path(find_checkpoint(Settings(engine="toon")).model) / "image_encoder"
        self._model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
        self._model.eval().to(device)

    @torch.no_grad()
    def embed(self, picture: Image.Image) -> NDArray[numpy.float64]:
        """The projected embedding that the product's own likeness score compares."""
        pixels = _to_pixels(picture, self._model.config.image_size, *_HALVES).to(self._model.device)
        return _normalize(self._model(pixel_values=pixels).image_embeds[0])


class PromptNetwork:
    """A CLIP model: how well a picture fits words (CLIPScore, Hessel et al., arXiv 2104.08718)."""

    def __init__(self, place: str, device: str) -> None:
        """`place` is a local folder or a hub id.

        Raises:
            UnderstudyError: there is no such network.
        """
        from transformers import AutoTokenizer, CLIPModel

        self._model = _load(CLIPModel, place, "--prompt-model").eval().to(device)
        self._tokenizer = _load(AutoTokenizer, place, "--prompt-model")
        self.name = _name_network(place, self._model)

    @torch.no_grad()
    def score(self, picture: Image.Image, words: str) -> float:
        """The cosine of picture and words times 100, never below 0: as CLIP-T and torchmetrics tell it."""
        config = self._model.config
        pixels = _to_pixels(picture, config.vision_config.image_size, *_CLIP)
        most = config.text_config.max_position_embeddings
        tokens = self._tokenizer(words, truncation=True, max_length=most, return_tensors="pt")
        told = self._model(
            input_ids=tokens.input_ids.to(self._model.device),
            attention_mask=tokens.attention_mask.to(self._model.device),
            pixel_values=pixels.to(self._model.device),
        )
        cosine = _normalize(told.image_embeds[0]) @ _normalize(told.text_embeds[0])
        return 100 * max(0.0, float(cosine))


class DreamSim:
    """The embedding of the package `dreamsim` (Fu et al., arXiv 2306.09344)."""

    name = "DreamSim's ensemble"

    def __init__(self, device: str) -> None:
        """Load it; the package downloads its weights once.

        Raises:
            UnderstudyError: the package is not installed.
        """
        try:
            from dreamsim import dreamsim
        except ImportError:
            raise UnderstudyError("--dreamsim needs its package: run `pip install dreamsim`.") from None
        self._device = device
        self._model, self._preprocess = dreamsim(pretrained=True, device=device)

    @torch.no_grad()
    def embed(self, picture: Image.Image) -> NDArray[numpy.float64]:
        """What the distance compares: it is 1 less the cosine."""
        pixels = self._preprocess(square_picture(picture)).to(self._device)
        return _normalize(self._model.embed(pixels).flatten())


@dataclass(frozen=True)
class Reading:
    """What is read of one picture: the identity of its figure, or of the whole picture where nobody is
    found; the same by DreamSim, where that looks; and the figure's skeleton."""

    identity: NDArray[numpy.float64]
    dreamsim: NDArray[numpy.float64] | None
    skeleton: Skeleton | None


class Instruments:
    """All that a comparison measures with; what is None is not measured."""

    def __init__(
        self,
        identity: IdentityNetwork,
        detector: PoseDetector | None = None,
        detector_name: str = "none",
        prompt: PromptNetwork | None = None,
        dreamsim: DreamSim | None = None,
    ) -> None:
        self.identity, self.prompt, self.dreamsim = identity, prompt, dreamsim
        self.detector, self.detector_name = detector, detector_name
        self._read: dict[bytes, Reading] = {}

    def read(self, picture: Image.Image) -> Reading:
        """What a picture shows; equal pictures are read once."""
        digest = hashlib.sha256(picture.tobytes()).digest()
        if digest not in self._read:
            skeleton = self.find_skeleton(picture)
            figure = picture if skeleton is None else cut_out(picture, skeleton)
            dreamsim = None if self.dreamsim is None else self.dreamsim.embed(figure)
            self._read[digest] = Reading(self.identity.embed(figure), dreamsim, skeleton)
        return self._read[digest]

    def find_skeleton(self, picture: Image.Image) -> Skeleton | None:
        """The skeleton of the largest figure; None where nobody is found, or nothing looks."""
        if self.detector is None:
            return None
        try:
            return self.detector.find_skeleton(picture)
        except EngineError as error:
            if error.code != "no_person_found":
                raise
            return None


def load_instruments(
    *, identity: str, prompt: str | None, detector: str, dreamsim: bool, device: str
) -> Instruments:
    """Load what the options name. `identity` is a DINO's folder or hub id, or `embedded`.

    `detector` is one of `DETECTORS`; `auto` is rtmlib where it is installed, else that of the embedded
    model where it has one.

    Raises:
        UnderstudyError: something is missing; the message says what to do.
        EngineError: the detector's models cannot be loaded.
    """
    found, name = _choose_detector(detector, device)
    return Instruments(
        EmbeddedEncoder(device) if identity == EMBEDDED else Dino(identity, device),
        found,
        name,
        None if prompt is None else PromptNetwork(prompt, device),
        DreamSim(device) if dreamsim else None,
    )


def cut_out(picture: Image.Image, skeleton: Skeleton) -> Image.Image:
    """The box of a figure with some room around it, as far as the picture reaches."""
    left, top, right, bottom = measure_body(skeleton)
    room = CROP_MARGIN * max(right - left, bottom - top)
    box = (
        max(0, int(left - room)),
        max(0, int(top - room)),
        min(picture.width, int(right + room) + 1),
        min(picture.height, int(bottom + room) + 1),
    )
    return picture.crop(box) if box[0] < box[2] and box[1] < box[3] else picture


def _choose_detector(name: str, device: str) -> tuple[PoseDetector | None, str]:
    if name == "rtmlib" or (name == "auto" and is_detector_installed()):
        return load_detector(device=device), "rtmlib"
    if name in ("toon", "auto"):
        own = load_toon_detector(find_checkpoint(Settings(engine="toon")))
        if own is not None:
            return own, "the embedded model's own, which learned from such drawings as ours"
        if name == "toon":
            raise UnderstudyError("The embedded model has no detector; give --detector rtmlib or none.")
    return None, "none"


def _load(kind: Any, place: str, option: str) -> Any:
    try:
        return kind.from_pretrained(place)
    except (OSError, ValueError) as error:
        choices = "a local folder, or the hub id of a model that can be downloaded from here"
        if option == "--identity-model":
            choices = f"{choices}, or {EMBEDDED}, which needs no download"
        raise UnderstudyError(
            f"{option} {place} cannot be loaded; give {choices} ({str(error).splitlines()[0]})"
        ) from error


def _name_network(place: str, model: Any) -> str:
    """A network by its last name, and the commit that it was downloaded at."""
    commit = getattr(model.config, "_commit_hash", None)
    return Path(place).name if commit is None else f"{place} at {commit[:12]}"


def _to_pixels(
    picture: Image.Image, side: int, mean: Sequence[float], spread: Sequence[float]
) -> torch.Tensor:
    square = square_picture(picture).resize((side, side), Image.Resampling.BICUBIC)
    pixels = (numpy.asarray(square, numpy.float32) / 255 - numpy.float32(mean)) / numpy.float32(spread)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _normalize(vector: torch.Tensor) -> NDArray[numpy.float64]:
    values = vector.double().cpu().numpy()
    return values / numpy.linalg.norm(values)
