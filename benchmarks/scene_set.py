"""What engines are asked to draw to be compared: characters, each in the same scenes.

Our own characters come from the renderer that the embedded model learns from; their seeds are words,
those of trainings numbers, so that no training sees one of them. For these the right answer can be drawn
too. A user's own characters come from a folder.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from understudy.errors import UnderstudyError
from understudy.pictures import decode_picture
from understudy.pose.library import find_pose
from understudy.pose.skeleton import Skeleton, fit_skeleton
from understudy.settings import Settings

# The renderer is part of the repository and of no distribution. It is imported where it draws, for a
# user's own characters do without what it needs.
sys.path.append(str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from training.toon.character import Character as Attributes

CHARACTERS = 30
REFERENCE_POSE = "a_pose"
"""How model sheets show a character; it is none of the scenes'."""
SEED_STRIDE = 1_000
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Character:
    """Who is drawn: a reference picture, and a caption that may be empty.

    `number` is that of our own characters, None for a user's.
    """

    name: str
    reference: Image.Image
    caption: str = ""
    number: int | None = None


@dataclass(frozen=True)
class Scene:
    """What a character is asked to be drawn in: words, and at times a named pose.

    `keeps_look` says that the words leave the character as it is: where they do not, likeness to the
    reference is not what is wanted.
    """

    name: str
    words: str
    pose: str | None = None
    keeps_look: bool = True

    def find_skeleton(self, side: int) -> Skeleton | None:
        """The pose as the service places it on a square canvas, (18, 3) in pixels; None without one."""
        return None if self.pose is None else fit_skeleton(find_pose(self.pose).keypoints, side, side)

    def write_prompt(self, caption: str) -> str:
        """The prompt: who, as far as a caption tells it, and the scene."""
        return f"{caption or 'the character'}, {self.words}"


POSE_SCENES = tuple(
    Scene(name, f"{words}, full body, simple background", name)
    for name, words in {
        "wave": "waving a hand",
        "run": "running",
        "sit": "sitting on a chair",
        "back_view": "standing, seen from behind",
        "salute": "saluting",
        "leap": "leaping",
        "three_quarter_left": "standing, three-quarter view",
        "throw": "throwing a ball",
        "propose": "kneeling on one knee, a hand held out",
        "yoga_tree": "standing on one leg, palms joined",
        "side_right": "standing, side view",
        "stand": "standing",
    }.items()
)
"""Twelve named poses, the prompt telling them too. The embedded model has learned none of the families
of `salute`, `leap`, `throw`, `propose` and `yoga_tree`."""

PROMPT_SCENES = (
    Scene("neutral", "standing, neutral expression, plain white background"),
    Scene("action", "running to catch a bus, in mid-stride, in the street"),
    Scene("emotion", "laughing with joy, arms up, simple background"),
    Scene("side view", "side view, in profile, walking, simple background"),
    Scene("close-up", "close-up portrait, head and shoulders, smiling"),
    Scene("other outfit", "wearing a yellow raincoat and red rubber boots, in the rain", keeps_look=False),
    Scene("complex background", "in a busy night market, stalls, lanterns and people in the background"),
)
"""The seven scenes by which illustrators try whether a character holds; prompts alone, no pose."""

SCENES = POSE_SCENES + PROMPT_SCENES


@dataclass(frozen=True)
class SceneSet:
    """Characters, scenes, and how often each is drawn: with another seed each time."""

    characters: Sequence[Character]
    scenes: Sequence[Scene]
    seeds: int = 1
    side: int = 1024
    """Of the pictures, which are square, in pixels."""
    shape: tuple[int, int, int] = field(init=False)
    """How many characters, scenes and seeds: a picture's place is a number of each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (len(self.characters), len(self.scenes), self.seeds))

    def choose_seed(self, scene: Scene, number: int) -> int:
        """The seed of a picture: another one in each scene, the same one for all characters.

        It is the same in a smaller set of scenes, so that what was drawn for that is not drawn again.
        """
        return SEED_STRIDE * number + SCENES.index(scene)


def draw_characters(count: int, side: int) -> list[Character]:
    """The first of our own characters, with references of `side` pixels and captions that tell all.

    Raises:
        UnderstudyError: what the renderer draws with is not installed.
    """
    from training.toon.captions import write_caption

    if importlib.util.find_spec("skia") is None:
        raise UnderstudyError(
            "Our characters are drawn with skia-python: run `pip install -e '.[train]'`, or give a folder of "
            "your own."
        )
    return [
        Character(
            f"character {number + 1}",
            _draw(number, REFERENCE_POSE, side)[0],
            write_caption(_make_character(number)),
            number,
        )
        for number in range(count)
    ]


def read_characters(folder: Path) -> list[Character]:
    """A user's own characters: each picture of a folder is one, `anna.txt` beside `anna.png` its caption.

    Raises:
        UnderstudyError: there is no picture, or one cannot be read; the message names it.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise UnderstudyError(f"There is no picture ({', '.join(PICTURE_SUFFIXES)}) in {folder}.")
    limits, characters = Settings(), []
    for path in paths:
        try:
            reference = decode_picture(
                path.read_bytes(), max_bytes=limits.max_picture_bytes, max_pixels=limits.max_picture_pixels
            )
        except UnderstudyError as error:
            raise UnderstudyError(f"{path} cannot be read: {error.message}") from error
        words = path.with_suffix(".txt")
        caption = " ".join(words.read_text(encoding="utf-8").split()) if words.exists() else ""
        characters.append(Character(path.stem, reference, caption))
    return characters


def draw_truth(character: Character, pose: str, side: int) -> tuple[Image.Image, Skeleton]:
    """One of our own characters in a named pose as the renderer has it, and where its keypoints are.

    Raises:
        ValueError: it is a user's character.
    """
    if character.number is None:
        raise ValueError(f"nobody knows the right picture of {character.name}")
    return _draw(character.number, pose, side)


def _make_character(number: int) -> Attributes:
    from training.toon.character import make_character

    return make_character(random.Random(f"likeness character {number}"))  # noqa: S311


def _draw(number: int, pose: str, side: int) -> tuple[Image.Image, Skeleton]:
    from training.toon.poses import FAMILIES, Pose, mirror_rig
    from training.toon.renderer import Framing, Style, draw, make_shot
    from training.toon.scene import Scene as Backdrop

    from understudy.pose.table import ENTRIES

    entries = {entry.name: entry for entry in ENTRIES}
    entry = entries[pose]
    rig = entry.rig or mirror_rig(entries[entry.mirror_of].rig)
    family = next(name for name, one in FAMILIES.items() if pose in one.names)
    shot = make_shot(
        random.Random(f"likeness shot {number} {pose}"),  # noqa: S311
        Pose(family, rig),
        expression="happy",
        scene=Backdrop("plain"),
        style=Style(),
        framing=Framing("whole"),
    )
    drawing = draw(_make_character(number), shot, side, side)
    return Image.fromarray(drawing.picture), drawing.skeleton
