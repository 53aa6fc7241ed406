"""Portfolios: what each engine, and each baseline, draws of one scene set.

A drawn picture is kept in a folder under the digest of all that it depends on, so that a comparison
goes on where it was interrupted, and a second one draws only what is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy
from PIL import Image, PngImagePlugin
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scene_set import Scene, SceneSet, draw_truth

from understudy.pose.skeleton import Skeleton

Place = tuple[int, int, int]
"""The number of a character, of a scene and of a seed."""

NO_REFERENCE_GREY = (128, 128, 128)
_KEPT_WORDS = "likeness"
"""The name that a kept picture's warnings and seconds have in its file."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A picture that is asked for: square, of `side` pixels, in a scene and its pose."""

    scene: Scene
    prompt: str
    reference: Image.Image
    side: int
    seed: int
    steps: int
    guidance_scale: float
    ip_scale: float | None = None

    def digest(self) -> str:
        """A name for all that it asks."""
        told = (self.prompt, self.side, self.seed, self.steps, self.guidance_scale, self.ip_scale)
        skeleton = self.scene.find_skeleton(self.side)
        digest = hashlib.sha256(repr((*told, self.reference.size)).encode())
        digest.update(self.reference.tobytes())
        digest.update(b"" if skeleton is None else skeleton.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Drawn:
    """What came of an order: a picture, or None and, among the warnings, why not."""

    picture: Image.Image | None
    warnings: Sequence[str] = ()
    seconds: float = 0.0


class Artist(Protocol):
    """Whoever draws orders."""

    label: str
    """What the report calls it."""
    maker: str
    """All that its pictures depend on besides an order."""
    weights: str
    """What it draws with, in words."""
    can_ignore_references: bool
    """Whether `ip_scale` 0 leaves the reference out, and nothing else."""

    def draw(self, orders: Sequence[Order]) -> Iterator[tuple[int, Drawn]]:
        """Draw orders, telling each by its number as it is done, in any order."""
        ...

    def close(self) -> None:
        """Give back what was loaded."""
        ...


@dataclass
class Portfolio:
    """The pictures of one artist or baseline by their places; what failed has none.

    `note` says how they came about. `drawn` counts those of this run. `shown` says whether there is
    something to see.
    """

    label: str
    note: str
    pictures: dict[Place, Image.Image | Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: int = 0
    drawn: int = 0
    shown: bool = True

    def open(self, place: Place) -> Image.Image | None:
        """The picture of a place, None where there is none."""
        picture = self.pictures.get(place)
        if isinstance(picture, Path):
            with Image.open(picture) as image:
                return image.convert("RGB")
        return picture


class Gallery:
    """A folder of pictures that were drawn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_place(self, artist: Artist, order: Order) -> Path:
        """Where an artist's picture of an order is, or would be."""
        digest = hashlib.sha256(f"{artist.maker} {order.digest()}".encode())
        return self._folder / f"{digest.hexdigest()[:32]}.png"

    def keep(self, path: Path, drawn: Drawn) -> None:
        """Write a picture with its warnings and seconds: whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        words = PngImagePlugin.PngInfo()
        words.add_text(_KEPT_WORDS, json.dumps({"warnings": list(drawn.warnings), "seconds": drawn.seconds}))
        fresh = path.with_suffix(".new")
        assert drawn.picture is not None
        drawn.picture.save(fresh, "PNG", compress_level=2, pnginfo=words)
        fresh.rename(path)

    def read_words(self, path: Path) -> tuple[list[str], float]:
        """The warnings and seconds of a kept picture."""
        with Image.open(path) as image:
            words = json.loads(image.text[_KEPT_WORDS])
        return words["warnings"], words["seconds"]


def write_orders(
    scene_set: SceneSet, *, steps: int, guidance_scale: float, captions: bool
) -> dict[Place, Order]:
    """An order for each place; `captions` puts a character's caption before the scene's words."""
    orders = {}
    for place in numpy.ndindex(scene_set.shape):
        character, scene = scene_set.characters[place[0]], scene_set.scenes[place[1]]
        orders[place] = Order(
            scene=scene,
            prompt=scene.write_prompt(character.caption if captions else ""),
            reference=character.reference,
            side=scene_set.side,
            seed=scene_set.choose_seed(scene, place[2]),
            steps=steps,
            guidance_scale=guidance_scale,
        )
    return orders


def drop_references(orders: dict[Place, Order], artist: Artist) -> dict[Place, Order]:
    """The same orders with a plain grey picture in place of every reference.

    The embedded model has learned to take that for none. Where `ip_scale` 0 can leave the reference out
    it does so too; a model that edits pictures cannot, and makes of the grey what it likes.
    """
    changes = {"ip_scale": 0.0} if artist.can_ignore_references else {}
    return {
        place: replace(
            order, reference=Image.new("RGB", (order.side, order.side), NO_REFERENCE_GREY), **changes
        )
        for place, order in orders.items()
    }


def draw_portfolio(
    artist: Artist, orders: dict[Place, Order], gallery: Gallery, *, label: str, note: str
) -> Portfolio:
    """What an artist makes of orders; equal ones are drawn once, and what is kept is not drawn again."""
    paths = {place: gallery.find_place(artist, order) for place, order in orders.items()}
    missing = {path: orders[place] for place, path in paths.items() if not path.exists()}
    portfolio = Portfolio(label, note)
    refusals: list[str] = []
    where = list(missing)
    for number, drawn in track_progress(artist.draw(list(missing.values())), label, len(missing)):
        if drawn.picture is None:
            refusals += drawn.warnings
        else:
            gallery.keep(where[number], drawn)
            portfolio.drawn += 1
    portfolio.pictures = {place: path for place, path in paths.items() if path.exists()}
    portfolio.failures = len(paths) - len(portfolio.pictures)
    words = [gallery.read_words(path) for path in dict.fromkeys(portfolio.pictures.values())]
    portfolio.warnings = sorted({*refusals, *itertools.chain.from_iterable(one for one, _ in words)})
    portfolio.seconds = [seconds for _, seconds in words]
    return portfolio


def paste_references(scene_set: SceneSet) -> Portfolio:
    """The baseline that every measure of likeness loves: the reference itself, whatever was asked for."""
    pictures = {place: scene_set.characters[place[0]].reference for place in numpy.ndindex(scene_set.shape)}
    note = "the reference itself, pasted as the answer to everything"
    return Portfolio("copy-paste", note, pictures, shown=False)


def draw_truths(scene_set: SceneSet) -> tuple[Portfolio, dict[Place, Skeleton]]:
    """The right answers, as far as they are known: our own characters in named poses, the same for every
    seed; and where their keypoints are."""
    portfolio = Portfolio("true drawing", "our characters drawn in these poses by the renderer itself")
    skeletons: dict[Place, Skeleton] = {}
    for row, column in numpy.ndindex(scene_set.shape[:2]):
        character, scene = scene_set.characters[row], scene_set.scenes[column]
        if scene.pose is None or character.number is None:
            continue
        picture, skeleton = draw_truth(character, scene.pose, scene_set.side)
        for number in range(scene_set.seeds):
            portfolio.pictures[row, column, number] = picture
            skeletons[row, column, number] = skeleton
    return portfolio, skeletons


def track_progress(things: Iterable, words: str, total: int) -> Iterator:
    """The things one by one, with a bar on stderr that tells how many there have been."""
    console = Console(stderr=True)
    columns = TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not total) as progress:
        yield from progress.track(things, total=total)
