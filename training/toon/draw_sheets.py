"""Contact sheets, to look at: python -m training.toon.draw_sheets [--folder build/toon/sheets].

characters.png    many characters, a random shot each
poses.png         one character in every named pose
views.png         characters turned all the way round
garments.png      every top, layer, bottom, shoe, pattern and accessory, from four sides
hair.png          every hair style and hat, from four sides
scenes.png        every scene
large.png         many characters, large
reference.png     one character, 1024 px
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from understudy.pose.rig import Rig
from understudy.pose.table import ENTRIES

from . import character as attributes
from .character import Character, make_character
from .poses import FAMILIES, Pose
from .renderer import Framing, Shot, draw, make_shot
from .scene import SCENES, Scene, make_scene

PAPER = Scene("floor", (232, 236, 240))


def draw_characters(seed: int, size: int = 256, count: int = 48) -> NDArray[np.uint8]:
    """Many characters, a random shot each."""
    rng = random.Random(seed)
    pictures = (draw(make_character(rng), make_shot(rng), size, size).picture for _ in range(count))
    return tile(pictures, columns=max(4, count // 6))


def draw_poses(seed: int, size: int = 256) -> NDArray[np.uint8]:
    """One character in every named pose that has a rig of its own."""
    rng = random.Random(seed)
    character = make_character(rng)
    families = {name: family for family, members in FAMILIES.items() for name in members.names}
    shots = [
        make_shot(rng, Pose(families.get(entry.name, entry.name), entry.rig), scene=PAPER, framing=Framing())
        for entry in ENTRIES
        if entry.rig is not None
    ]
    return tile((draw(character, shot, size, size).picture for shot in shots), columns=12)


def draw_views(seed: int, size: int = 256, people: int = 6) -> NDArray[np.uint8]:
    """Characters turned all the way round."""
    rng = random.Random(seed)
    pictures = []
    for _ in range(people):
        character = make_character(rng)
        for yaw in (0, 25, 50, 85, 125, 180, -150, -90, -45):
            pictures.append(draw(character, pose_view(yaw), size, size).picture)
    return tile(pictures, columns=9)


def draw_variants(seed: int, variants: list[dict[str, str]], size: int = 192) -> NDArray[np.uint8]:
    """A character with attributes changed, each change from four sides."""
    rng = random.Random(seed)
    pictures = []
    for changes in variants:
        character = replace(make_character(rng), **changes)
        character = replace(
            character,
            colours={key: attributes.jitter_colour(character, key, rng) for key in character.colours},
        )
        pictures += [draw(character, pose_view(yaw), size, size).picture for yaw in (0, 45, 85, 180)]
    return tile(pictures, columns=12)


def draw_scenes(seed: int, size: int = 256) -> NDArray[np.uint8]:
    """Every scene, four times."""
    rng = random.Random(seed)
    shots = [make_shot(rng, scene=make_scene(rng, kind)) for kind in SCENES for _ in range(4)]
    return tile((draw(make_character(rng), shot, size, size).picture for shot in shots), columns=8)


def pose_view(yaw: float) -> Shot:
    """Standing relaxed, turned."""
    rig = Rig(yaw=yaw, look=yaw, right_arm=((16, 20), (12, 50)), left_arm=((16, 20), (12, 50)))
    return Shot(Pose("stand", rig), scene=PAPER)


def list_garments() -> list[dict[str, str]]:
    """Every top, layer, bottom, shoe, pattern and accessory."""
    plain = {
        "top": "t-shirt",
        "top_pattern": "plain",
        "layer": "",
        "accessory": "",
        "bottom": "jeans",
        "bottom_colour": "blue",
    }
    layered = [name for name in attributes.LAYERS if name]
    return [
        *(plain | {"top": name} for name in attributes.TOPS if name != "dress"),
        plain | {"top": "dress", "person": "woman", "hair": "bob", "beard": "", "bottom": "leggings"},
        *(plain | {"top_pattern": name} for name in attributes.PATTERNS),
        *(plain | {"layer": name} for name in layered),
        plain | {"layer": "shirt", "layer_pattern": "plaid", "top_colour": "white", "layer_colour": "red"},
        *(
            plain
            | {"bottom": name, "bottom_colour": "blue", "person": "young woman", "hair": "bob", "beard": ""}
            for name in attributes.BOTTOMS
        ),
        *(plain | {"shoes": name} for name in attributes.SHOES),
        *(plain | {"top": "shirt", "accessory": name} for name in attributes.ACCESSORIES if name),
    ]


def list_hair() -> list[dict[str, str]]:
    """Every hair style, and every hat over some."""
    styles = [{"hair": name, "hat": ""} for name in attributes.HAIR_STYLES]
    return styles + [
        {"hair": hair, "hat": hat} for hat in attributes.HATS if hat for hair in ("short", "long")
    ]


def make_reference(rng: random.Random) -> Character:
    """The man of the reference page."""
    wanted = replace(
        make_character(rng), person="young man", build="average", beard="beard", skin="light", face="round",
        eye_size="large", eye_colour="brown", hair="wavy", hair_colour="brown", glasses="", hat="",
        top="t-shirt", top_colour="white", top_pattern="plain", layer="shirt", layer_pattern="plaid",
        layer_colour="red", bottom="jeans", bottom_colour="blue", shoes="boots", shoes_colour="brown",
        accessory="",
    )  # fmt: skip
    colours = {key: attributes.jitter_colour(wanted, key, rng) for key in wanted.colours}
    return replace(wanted, colours=colours)


def tile(pictures: Iterable[NDArray[np.uint8]], columns: int = 8) -> NDArray[np.uint8]:
    """Pictures of one size, row by row."""
    rows = list(pictures)
    rows += [np.full_like(rows[0], 255)] * (-len(rows) % columns)
    return np.concatenate(
        [np.concatenate(rows[start : start + columns], 1) for start in range(0, len(rows), columns)], 0
    )


def main() -> None:
    """Write the sheets."""
    parser = argparse.ArgumentParser(description="Draw contact sheets of the drawn characters.")
    parser.add_argument("--folder", type=Path, default=Path("build/toon/sheets"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    seed = options.seed
    sheets = {
        "characters": lambda: draw_characters(seed),
        "poses": lambda: draw_poses(seed),
        "views": lambda: draw_views(seed),
        "garments": lambda: draw_variants(seed, list_garments()),
        "hair": lambda: draw_variants(seed, list_hair()),
        "scenes": lambda: draw_scenes(seed),
        "large": lambda: draw_characters(seed, 480, 12),
        "reference": lambda: draw(make_reference(random.Random(seed)), pose_view(12), 1024, 1024).picture,
    }
    for name, draw_sheet in sheets.items():
        if not options.only or name in options.only:
            Image.fromarray(draw_sheet()).save(options.folder / f"{name}.png")


if __name__ == "__main__":
    main()
