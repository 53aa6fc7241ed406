import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from training.toon.body import Body, measure
from training.toon.character import PERSONS, Character, make_character
from training.toon.ink import Part
from training.toon.poses import Pose
from training.toon.renderer import Framing, Shot, draw, make_shot
from training.toon.scene import SCENES, Scene

from understudy.pose.rig import Rig, pose_rig
from understudy.pose.table import ENTRIES

RIGS = {entry.name: entry.rig for entry in ENTRIES if entry.rig is not None}


def make_case(seed: int, **given) -> tuple[Character, Shot]:
    rng = random.Random(seed)
    return make_character(rng), make_shot(rng, **given)


def stand(yaw: float = 0.0) -> Shot:
    return Shot(Pose("stand", Rig(yaw=yaw, look=yaw)))


def test_a_seed_is_a_picture():
    first, again = (draw(*make_case(5), 200, 200, parts=True) for _ in range(2))
    other = draw(*make_case(6), 200, 200)
    assert first.picture.tobytes() == again.picture.tobytes()
    assert first.parts.tobytes() == again.parts.tobytes()
    assert first.skeleton.tobytes() == again.skeleton.tobytes()
    assert first.picture.tobytes() != other.picture.tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_a_shot_is_the_same_picture_at_every_size(seed):
    character, shot = make_case(seed)
    small, large = draw(character, shot, 256, 192), draw(character, shot, 1024, 768)
    shrunk = np.asarray(Image.fromarray(large.picture).resize((256, 192), Image.Resampling.BOX), float)
    assert np.abs(shrunk - small.picture).mean() < 2.0
    np.testing.assert_allclose(large.skeleton[:, :2], 4 * small.skeleton[:, :2], atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_window_is_the_piece_of_the_whole(seed):
    character, shot = make_case(seed)
    whole = draw(character, shot, 512, 512, parts=True)
    piece = draw(character, shot, 512, 512, window=(131, 90, 240, 200), parts=True)
    difference = np.abs(whole.picture[90:290, 131:371].astype(int) - piece.picture)
    # The coverage of a pixel on an edge may be rounded another way; nothing is elsewhere.
    assert difference.mean() < 0.1
    assert difference.max() < 90
    assert (whole.parts[90:290, 131:371] != piece.parts).mean() < 0.002
    seen = whole.skeleton[:, 2] > 0
    np.testing.assert_allclose(piece.skeleton[seen, :2], whole.skeleton[seen, :2] - (131, 90))


@pytest.mark.parametrize(("width", "height"), [(256, 256), (160, 320), (320, 160)])
def test_a_whole_figure_stands_in_the_picture_with_its_keypoints_on_it(width, height):
    on_figure, all_seen = 0, 0
    for seed in range(25):
        character, shot = make_case(seed, framing=Framing())
        drawing = draw(character, shot, width, height, parts=True)
        expected = Body(character, shot.pose.rig).skeleton[:, 2] > 0
        assert (drawing.skeleton[:, 2] > 0).tolist() == expected.tolist()
        edges = drawing.parts[[0, -1]].any() or drawing.parts[:, [0, -1]].any()
        assert not edges, f"seed {seed}: the figure touches the picture's edge"
        for x, y, seen in drawing.skeleton:
            if seen:
                all_seen += 1
                on_figure += drawing.parts[int(y), int(x)] != Part.SCENE
    assert on_figure / all_seen > 0.985


def test_the_map_of_parts_has_what_the_character_wears_and_nothing_else():
    for seed in range(40):
        character = make_character(random.Random(seed))
        parts = set(np.unique(draw(character, stand(), 384, 384, parts=True).parts).tolist())
        worn = {
            Part.HAT: bool(character.hat),
            Part.BEARD: bool(character.beard),
            Part.GLASSES: bool(character.glasses),
            Part.LAYER: bool(character.layer),
            Part.ACCESSORY: bool(character.accessory),
            Part.TOP: True,
            Part.SHOES: True,
            Part.SKIN: True,
            Part.EYES: character.glasses != "sunglasses",
            Part.BOTTOM: character.top != "dress",
        }
        for part, is_worn in worn.items():
            assert (part in parts) == is_worn, (seed, part.name, character)


def test_what_is_in_front_is_gone_from_behind():
    character = replace(make_character(random.Random(3)), top="shirt", layer="", accessory="tie")
    front, back = (draw(character, stand(yaw), 256, 256, parts=True).parts for yaw in (0, 180))
    assert (front == Part.ACCESSORY).any()
    assert not (back == Part.ACCESSORY).any()
    assert not (back == Part.EYES).any()


def test_an_open_layer_shows_the_top_from_the_front_only():
    character = replace(
        make_character(random.Random(3)),
        top="t-shirt",
        layer="coat",
        accessory="",
        hair="short",
        bottom="jeans",
    )
    shown = {}
    for yaw in (0, 45, 180):
        parts = draw(character, stand(yaw), 256, 256, parts=True).parts
        shown[yaw] = (parts == Part.TOP).sum() / (parts == Part.LAYER).sum()
    assert shown[0] > 0.1
    assert shown[45] > 0.05
    assert shown[180] == 0


def test_every_scene_is_drawn_behind_every_person():
    for index, kind in enumerate(SCENES):
        character = replace(make_character(random.Random(index)), person=PERSONS[index % len(PERSONS)])
        shot = replace(stand(), scene=Scene(kind, (219, 233, 244), (0.3, 0.6, 0.2, 0.8)))
        drawing = draw(character, shot, 96, 96, parts=True)
        assert (drawing.parts == Part.SCENE).mean() > 0.3
        assert drawing.picture.std() > 10


def test_close_framings_hide_the_keypoints_that_are_outside():
    character, shot = make_case(2, pose=Pose("stand", Rig()), framing=Framing(kind="close"))
    skeleton = draw(character, shot, 200, 200).skeleton
    assert skeleton[0, 2] == 1
    assert not skeleton[[10, 13]].any()
    seen = skeleton[skeleton[:, 2] > 0, :2]
    assert (seen >= 0).all()
    assert (seen < 200).all()


def test_named_poses_can_take_other_proportions():
    for name, rig in RIGS.items():
        for person in ("boy", "old man"):
            character = replace(make_character(random.Random(1)), person=person, build="slim")
            body = Body(character, rig)
            np.testing.assert_allclose(
                body.skeleton[:, :2], 1000 * pose_rig(rig, measure(character))[:, :2], err_msg=name
            )
            elbow, wrist = (np.array(body.joints[f"left_{joint}"]) for joint in ("elbow", "wrist"))
            assert np.linalg.norm(wrist - elbow) == pytest.approx(1000 * body.proportions.forearm, rel=0.02)
