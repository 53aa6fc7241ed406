"""How well poses are found in drawings: `python benchmarks/poses.py`, with the detectors that are installed.

Twenty drawings whose joints are known, as users' pictures are: turned, mirrored, cut to half a body, small,
noisy, compressed, on a scene, with somebody else behind. Their characters come from the renderer that the
embedded model learns from; their seeds are words, those of trainings numbers, so that no training sees one.
"""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# It is read when the library is loaded.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy
from PIL import Image

from understudy.engines import EngineError
from understudy.engines.checkpoint import find_checkpoint
from understudy.engines.checkpoint import load_detector as load_toon_detector
from understudy.engines.detector import PoseDetector, is_detector_installed, load_detector
from understudy.pose.scores import score_pck
from understudy.pose.skeleton import Skeleton, mirror_skeleton, visible_keypoints
from understudy.settings import Settings

# The renderer is part of the repository and of no distribution.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from training.toon.character import make_character
from training.toon.renderer import Framing, draw, make_shot
from training.toon.scene import Scene

SIDE = 512
PLAIN = Scene("plain")
ROOM = Framing("whole", 0.75)
"""Space to be turned in."""
UPPER = Framing("upper")

Drawn = tuple[Image.Image, Skeleton]
"""A picture, and where the 18 keypoints are that it shows, (18, 3) in its pixels."""


def keep(drawn: Drawn) -> Drawn:
    """The drawing as it is."""
    return drawn


@dataclass(frozen=True)
class Case:
    """One of the pictures: who is drawn by a seed, and what happens to the drawing."""

    name: str
    seed: int
    size: tuple[int, int] = (SIDE, SIDE)
    framing: Framing = Framing("whole", 0.9)  # noqa: RUF009
    scene: Scene | None = None
    distort: Callable[[Drawn], Drawn] = keep

    def draw(self) -> Drawn:
        """The drawing before it is distorted."""
        rng = random.Random(f"drawn body {self.seed}")  # noqa: S311
        character = make_character(rng)
        drawing = draw(character, make_shot(rng, scene=self.scene, framing=self.framing), *self.size)
        return Image.fromarray(drawing.picture), drawing.skeleton

    def make(self) -> Drawn:
        """The picture, and the keypoints in it."""
        return self.distort(self.draw())


def turn(drawn: Drawn, degrees: float) -> Drawn:
    """Turned about the middle, against the clock."""
    picture, skeleton = drawn
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=picture.getpixel((0, 0)))
    cosine, sine = numpy.cos(numpy.radians(degrees)), numpy.sin(numpy.radians(degrees))
    middle = numpy.array(picture.size) / 2
    points = (skeleton[:, :2] - middle) @ numpy.array([[cosine, -sine], [sine, cosine]]) + middle
    return turned, _hide_outside(numpy.column_stack([points, skeleton[:, 2]]), picture.size)


def mirror(drawn: Drawn) -> Drawn:
    """Left and right swapped."""
    picture, skeleton = drawn
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirror_skeleton(skeleton, picture.width)


def cut(drawn: Drawn, left: float, top: float, right: float, bottom: float) -> Drawn:
    """A piece of the picture, in fractions of its sides."""
    picture, skeleton = drawn
    width, height = picture.size
    box = (int(left * width), int(top * height), int(right * width), int(bottom * height))
    piece = picture.crop(box)
    return piece, _hide_outside(skeleton - (box[0], box[1], 0), piece.size)


def resize(drawn: Drawn, side: int) -> Drawn:
    """The longer side as given, in pixels."""
    picture, skeleton = drawn
    size = tuple(max(1, round(side * length / max(picture.size))) for length in picture.size)
    scale = (size[0] / picture.width, size[1] / picture.height, 1.0)
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=None), skeleton * scale


def add_noise(drawn: Drawn, strength: float) -> Drawn:
    """Noise of each pixel, normally distributed with this deviation, of 255."""
    picture, skeleton = drawn
    noise = numpy.random.default_rng(0).normal(0, strength, (*picture.size[::-1], 3))
    return Image.fromarray((numpy.asarray(picture) + noise).clip(0, 255).astype(numpy.uint8)), skeleton


def compress(drawn: Drawn, quality: int) -> Drawn:
    """Through a JPEG file."""
    file = io.BytesIO()
    drawn[0].save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB"), drawn[1]


def add_somebody(drawn: Drawn, seed: int) -> Drawn:
    """A second figure at the side, a third as large: the first is the one that counts."""
    picture, skeleton = drawn
    wide = Image.new("RGB", (int(1.35 * picture.width), picture.height), picture.getpixel((0, 0)))
    wide.paste(picture, (0, 0))
    other, _ = Case("somebody", seed, (SIDE // 3, SIDE // 3), scene=PLAIN).draw()
    wide.paste(other, (picture.width, picture.height // 2))
    return wide, skeleton


def _hide_outside(skeleton: Skeleton, size: tuple[int, int]) -> Skeleton:
    inside = ((skeleton[:, :2] >= 0) & (skeleton[:, :2] < size)).all(axis=1)
    return numpy.where((inside & visible_keypoints(skeleton))[:, None], skeleton, 0.0)


CASES = (
    Case("whole", 1),
    Case("whole, another", 2),
    Case("whole, a third", 3),
    Case("wide", 4, (900, 450)),
    Case("tall", 5, (400, 800)),
    Case("mirrored", 6, distort=mirror),
    Case("mirrored, another", 7, distort=mirror),
    Case("turned left", 8, framing=ROOM, scene=PLAIN, distort=partial(turn, degrees=12)),
    Case("turned right", 9, framing=ROOM, scene=PLAIN, distort=partial(turn, degrees=-12)),
    Case("half a body", 10, framing=UPPER),
    Case("half a body, another", 11, framing=UPPER),
    Case("cut below", 12, (512, 768), distort=partial(cut, left=0, top=0, right=1, bottom=0.78)),
    Case("cut at the sides", 13, (768, 512), distort=partial(cut, left=0.2, top=0, right=0.8, bottom=1)),
    Case("120 pixels", 14, distort=partial(resize, side=120)),
    Case("1600 pixels", 15, (1600, 1600)),
    Case("small in its picture", 16, framing=Framing("whole", 0.55)),
    Case("noisy", 17, distort=partial(add_noise, strength=14)),
    Case("compressed", 18, distort=partial(compress, quality=35)),
    Case("somebody behind", 19, scene=PLAIN, distort=partial(add_somebody, seed=119)),
    Case("somebody behind, another", 20, scene=PLAIN, distort=partial(add_somebody, seed=120)),
)


@dataclass(frozen=True)
class Mark:
    """What a detector gets for a picture: `pck`, the share of the joints that are within a tenth of the
    torso (`score_pck`), and `presences`, the share of the 18 that are rightly said to show or not.
    """

    pck: float
    presences: float


def mark(detector: PoseDetector, drawn: Drawn) -> Mark:
    """Look for the body; who is not found shows nothing."""
    picture, truth = drawn
    try:
        found = detector.find_skeleton(picture)
    except EngineError as error:
        if error.code != "no_person_found":
            raise
        found = numpy.zeros((18, 3))
    same = visible_keypoints(found) == visible_keypoints(truth)
    return Mark(score_pck(found, truth), float(same.mean()))


def find_detectors() -> dict[str, PoseDetector]:
    """The detectors that are here, by their names."""
    detectors = {}
    if is_detector_installed():
        detectors["rtmlib"] = load_detector()
    own = load_toon_detector(find_checkpoint(Settings(engine="toon")))
    if own is not None:
        detectors["toon"] = own
    return detectors


def main() -> None:
    """Print a table: a row a picture, a column a detector."""
    detectors = find_detectors()
    if not detectors:
        sys.exit("There is no detector: `understudy fetch pose` gets rtmlib's; the embedded model has none.")
    marks = {name: [] for name in detectors}
    print("PCK@0.1 and right presences, in percent", *detectors, sep="\t")
    for case in CASES:
        drawn = case.make()
        for name, detector in detectors.items():
            marks[name].append(mark(detector, drawn))
        row = [f"{100 * of[-1].pck:3.0f} {100 * of[-1].presences:3.0f}" for of in marks.values()]
        print(f"{case.name:26}", *row, sep="\t")
    means = [
        f"{100 * numpy.mean([one.pck for one in of]):3.0f} "
        f"{100 * numpy.mean([one.presences for one in of]):3.0f}"
        for of in marks.values()
    ]
    print(f"{'mean':26}", *means, sep="\t")


if __name__ == "__main__":
    main()
