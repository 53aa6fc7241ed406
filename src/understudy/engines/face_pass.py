"""A second pass over a small face: cut out, drawn anew at the model's full size, put back softly.

A face of sixty pixels is a handful of latent pixels, of which no model makes eyes that look the same
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from diffusers import StableDiffusionXLControlNetPipeline
from PIL import Image

from ..pose.skeleton import Skeleton, find_face
from . import DrawRequest
from .canvas import choose_canvas
from .checkpoint import Profile
from .conditions import Conditions
from .passes import Pass
from .pose_finder import PoseFinder
from .schedulers import LateStart
from .toon_autoencoder import ToonAutoencoder
from .watch import AllCancelled, Watch

MARGIN = 0.6
"""Around the head, in radii of it: a model draws a head better with some neck and hair around it."""
STRENGTH = 0.4
"""The share of the noising from which a face is drawn anew: features change, their places do not."""
LEAST_STEPS = 6
"""Of which `STRENGTH` are drawn; of fewer too little would be left."""
LEAST_GAIN = 1.5
"""How many times larger a face must become, so that it is worth the steps."""
LEAST_SIDE = 32
"""Of the square in pixels of the picture; what is smaller shows no face."""
SEED_STREAM = 1
"""Tells the noise of the second pass from that of the first, which the seed alone gives."""


NO_FACE = "No face was found that could be drawn anew."


class FacePass:
    """Draws the faces of pictures anew where they are small."""

    def __init__(
        self,
        pipeline: StableDiffusionXLControlNetPipeline,
        profile: Profile,
        conditions: Conditions,
        poses: PoseFinder,
    ) -> None:
        self._profile = profile
        self._poses = poses
        self._vae = pipeline.vae
        self._scheduler = LateStart(pipeline.scheduler, STRENGTH)
        self._pass = Pass(pipeline, self._scheduler, profile, conditions)

    def count_steps(self, request: DrawRequest) -> int:
        """How many steps it makes."""
        self._plan_steps(request)
        return len(self._scheduler.timesteps)

    def redraw(
        self,
        requests: Sequence[DrawRequest],
        pictures: Sequence[Image.Image],
        watch: Watch,
        before: int,
    ) -> tuple[list[Image.Image], list[list[str]]]:
        """The pictures, faces drawn anew, and what is to be said of each.

        `before` is the number of steps that were made. A picture without a face that needs it is as it
        was, and all its steps are over.
        """
        pictures = list(pictures)
        faces = [
            self._find_face(request, picture) for request, picture in zip(requests, pictures, strict=True)
        ]
        warnings = [[NO_FACE] if face is None else [] for face in faces]
        squares = {
            place: square
            for place, (face, picture) in enumerate(zip(faces, pictures, strict=True))
            if watch.wanted[place]
            and (square := choose_square(face, picture.size, self._profile.canvas_pixels)) is not None
        }
        steps = before + self.count_steps(requests[0])
        watch.tell(steps, steps, places=[place for place in range(len(pictures)) if place not in squares])
        if squares:
            chosen = [*squares]
            some = watch.divide(chosen)
            try:
                drawn = self._draw(
                    [requests[place] for place in chosen],
                    [pictures[place] for place in chosen],
                    [*squares.values()],
                    some,
                    before,
                )
                for place, face in zip(chosen, drawn, strict=True):
                    pictures[place] = squares[place].blend(pictures[place], face)
            except AllCancelled:
                pass
            for place, wanted in zip(chosen, some.wanted, strict=True):
                watch.wanted[place] = wanted
        return pictures, warnings

    def _find_face(self, request: DrawRequest, picture: Image.Image) -> tuple[int, int, int, int] | None:
        if request.skeleton is None:
            return self._poses.find_face(picture, MARGIN)
        return find_face(request.skeleton, *picture.size, MARGIN)

    def _draw(
        self,
        requests: Sequence[DrawRequest],
        pictures: Sequence[Image.Image],
        squares: Sequence[Square],
        watch: Watch,
        before: int,
    ) -> list[Image.Image]:
        """What squares of pictures become when they are drawn on from a little noise."""
        canvas = choose_canvas(1, 1, self._profile.canvas_pixels, self._profile.canvas_multiple)
        noise, generators = self._pass.seed_noise(
            [(request.seed, SEED_STREAM) for request in requests], canvas
        )
        cut = [picture.crop(square.box) for picture, square in zip(pictures, squares, strict=True)]
        clean = encode_squares(self._vae, cut, noise.shape[-1])
        steps = self._plan_steps(requests[0])
        begin = self._scheduler.timesteps[:1].repeat(len(requests))
        skeletons = [
            None if request.skeleton is None else square.move_skeleton(request.skeleton, canvas[0])
            for request, square in zip(requests, squares, strict=True)
        ]
        return self._pass.run(
            requests,
            canvas,
            skeletons,
            self._scheduler.add_noise(clean, noise.to(clean.device), begin),
            generators,
            steps,
            watch.report_steps(before=before),
        )

    def _plan_steps(self, request: DrawRequest) -> int:
        """Set the scheduler to so many steps that some of them are left."""
        steps = self._profile.preset.count_steps(max(request.steps, LEAST_STEPS))
        self._scheduler.set_timesteps(steps, device=self._vae.device)
        return steps


@dataclass(frozen=True)
class Square:
    """A square of a picture, in its pixels."""

    left: int
    top: int
    side: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.side, self.top + self.side

    def move_skeleton(self, skeleton: Skeleton, side: int) -> Skeleton:
        """A skeleton of the whole picture in pixels of the square enlarged to `side`."""
        return (skeleton - (self.left, self.top, 0.0)) * (side / self.side, side / self.side, 1.0)

    def blend(self, picture: Image.Image, drawn: Image.Image) -> Image.Image:
        """The picture with `drawn` in the square's middle; outside its mask every pixel stays."""
        pixels = numpy.array(picture)
        left, top, right, bottom = self.box
        before = pixels[top:bottom, left:right].astype(float)
        small = drawn.resize((self.side, self.side), Image.Resampling.LANCZOS)
        after = before + make_mask(self.side)[..., None] * (numpy.asarray(small, dtype=float) - before)
        pixels[top:bottom, left:right] = numpy.rint(after).astype(numpy.uint8)
        return Image.fromarray(pixels)


def choose_square(
    face: tuple[int, int, int, int] | None, size: tuple[int, int], canvas_pixels: int
) -> Square | None:
    """The square of a picture that is worth drawing anew; None where there is none.

    `face` is a box around the face with its margin, `size` the picture's, and `canvas_pixels` the area
    at which the model draws, the first time the whole picture and now the square.
    """
    if face is None:
        return None
    left, top, right, bottom = face
    side = min(max(right - left, bottom - top), *size)
    drawn_side = side * (canvas_pixels / (size[0] * size[1])) ** 0.5
    if side < LEAST_SIDE or canvas_pixels**0.5 < LEAST_GAIN * drawn_side:
        return None
    middle = ((left + right) / 2, (top + bottom) / 2)
    corner = (round(min(max(at - side / 2, 0), whole - side)) for at, whole in zip(middle, size, strict=True))
    return Square(*corner, side)


def make_mask(side: int) -> numpy.ndarray:
    """How much of each pixel is new, (side, side) in 0..1: all in the middle, none at the edge."""
    steps = (numpy.arange(side) + 0.5) / side * 2 - 1
    distance = numpy.hypot(steps, steps[:, None])
    share = numpy.clip((0.95 - distance) / 0.35, 0, 1)
    return share * share * (3 - 2 * share)


@torch.no_grad()
def encode_squares(vae: Any, pictures: Sequence[Image.Image], cells: int) -> torch.Tensor:
    """The latents (n, channels, cells, cells) of square pictures, as a pipeline's scheduler has them."""
    config = vae.config
    blocks = config.decoder_channels if isinstance(vae, ToonAutoencoder) else config.block_out_channels
    side = cells * 2 ** (len(blocks) - 1)
    resized = [picture.resize((side, side), Image.Resampling.LANCZOS) for picture in pictures]
    pixels = torch.from_numpy(numpy.stack(resized).astype(numpy.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    # As the pipelines do: SDXL's own autoencoder overflows in 16 bits.
    before = vae.dtype
    if config.force_upcast:
        vae.to(torch.float32)
    encoded = vae.encode(pixels.to(vae.device, vae.dtype))
    if config.force_upcast:
        vae.to(before)
    latents = encoded if isinstance(encoded, torch.Tensor) else encoded.latent_dist.mode()
    return latents.float() * config.scaling_factor
