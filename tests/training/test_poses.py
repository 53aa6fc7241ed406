import math
import random
from collections import Counter

import numpy as np
import pytest
from training.toon.poses import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    TRAINING_FAMILIES,
    VIEWS,
    make_pose,
    mirror_rig,
)

from understudy.pose import KEYPOINT_NAMES, LIMBS, list_poses, mirror_skeleton
from understudy.pose.rig import Reach, pose_rig
from understudy.pose.table import ENTRIES

POSES = [make_pose(random.Random(seed)) for seed in range(1500)]


def test_every_named_pose_is_in_one_family():
    members = Counter(name for family in FAMILIES.values() for name in family.names)
    assert members.keys() == {pose.name for pose in list_poses()}
    assert set(members.values()) == {1}
    family_of = {name: family for family, those in FAMILIES.items() for name in those.names}
    for entry in ENTRIES:
        if entry.mirror_of:
            assert family_of[entry.name] == family_of[entry.mirror_of]


def test_held_out_families_are_never_drawn_in_training():
    assert len(HELD_OUT_FAMILIES) == 10
    assert not {*HELD_OUT_FAMILIES} & {*TRAINING_FAMILIES}
    drawn = {pose.family for pose in POSES}
    assert drawn == {*TRAINING_FAMILIES}
    assert {make_pose(random.Random(seed), HELD_OUT_FAMILIES).family for seed in range(200)} == {
        *HELD_OUT_FAMILIES
    }


def test_a_seed_makes_one_pose_and_another_seed_another():
    assert make_pose(random.Random(7)) == make_pose(random.Random(7))
    assert len({repr(pose) for pose in POSES}) == len(POSES)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.rig], ids=lambda entry: entry.name)
def test_a_mirrored_rig_has_the_mirrored_skeleton(entry):
    expected = mirror_skeleton(pose_rig(entry.rig), 0)
    assert np.allclose(pose_rig(mirror_rig(entry.rig)), expected, atol=1e-9)


def test_standing_characters_are_seen_from_all_sides():
    views = Counter(make_pose(random.Random(seed), ("stand",)).view for seed in range(2000))
    for view, share in zip(VIEWS, (0.45, 0.30, 0.15, 0.10), strict=True):
        assert abs(views[view] / 2000 - share) < 0.05, (view, views)


def test_turning_a_walk_keeps_its_stride():
    # Seen from the side the feet are far apart, from the front they are not.
    strides = {view: [] for view in VIEWS}
    for seed in range(600):
        pose = make_pose(random.Random(seed), ("walk",))
        keypoints = pose_rig(pose.rig)
        ankles = [keypoints[KEYPOINT_NAMES.index(name), 0] for name in ("left_ankle", "right_ankle")]
        strides[pose.view].append(abs(ankles[0] - ankles[1]))
    assert np.mean(strides["side"]) > 1.5 * np.mean(strides["front"])


def test_knees_do_not_bend_forwards():
    for pose in POSES:
        for leg in (pose.rig.right_leg, pose.rig.left_leg):
            thigh, shin = (find_direction(bone) for bone in leg)
            flat = any(math.hypot(bone[1], bone[2]) < 0.5 for bone in (thigh, shin))
            if not flat:
                assert find_swing(shin) - find_swing(thigh) < 20, pose


def test_heads_and_elbows_stay_within_their_reach():
    for pose in POSES:
        turned = (pose.rig.look - pose.rig.yaw + 180) % 360 - 180
        assert abs(turned) < 93, pose
        for arm in (pose.rig.right_arm, pose.rig.left_arm):
            if not isinstance(arm, Reach):
                upper, fore = (find_direction(bone) for bone in arm)
                assert float(upper @ fore) > math.cos(math.radians(166)), pose


def test_skeletons_are_finite_and_mostly_seen():
    for pose in POSES:
        keypoints = pose_rig(pose.rig)
        assert np.isfinite(keypoints).all()
        assert keypoints[1:14, 2].sum() >= 11
        seen = [(a, b) for a, b in LIMBS if keypoints[a, 2] and keypoints[b, 2]]
        assert max(np.hypot(*(keypoints[a, :2] - keypoints[b, :2])) for a, b in seen) < 0.3


def find_direction(bone):
    from_down, around = np.radians(bone)
    aside = np.sin(from_down)
    return np.array([aside * np.cos(around), -np.cos(from_down), aside * np.sin(around)])


def find_swing(direction):
    """How far forward of hanging straight down, in degrees."""
    return math.degrees(math.atan2(direction[2], -direction[1]))
