import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from understudy.errors import InvalidRequest
from understudy.pose import draw_pose_thumbnail, find_pose, list_poses
from understudy.pose.library import find_told_pose

ROOT = Path(__file__).parents[2]


def test_there_are_many_poses_and_each_is_described():
    poses = list_poses()
    assert len(poses) >= 48
    assert len({pose.name for pose in poses}) == len(poses)
    for pose in poses:
        assert pose.name == pose.name.lower()
        assert pose.title
        assert pose.category
        assert pose.description.endswith((".", "!", "?"))


def test_no_two_poses_are_alike():
    poses = list_poses()
    keypoints = np.array([pose.keypoints.ravel() for pose in poses])
    gaps = np.abs(keypoints[:, None] - keypoints[None]).max(axis=2) + np.eye(len(poses))
    assert gaps.min() > 0.02


@pytest.mark.parametrize("name", ["hands_on_hips", "Hands-On-Hips", "hands on hips", "  HANDS_on hips "])
def test_a_name_may_be_written_in_several_ways(name):
    assert find_pose(name).name == "hands_on_hips"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("young man RUNNING, red shirt", "run"),
        ("a girl (waving) and then sitting", "wave"),
        ("somebody lying on the floor", "lie"),
        ("wearing a run-down hat, in the morning", None),
        ("", None),
    ],
)
def test_what_a_text_says_somebody_does_is_a_pose(text, name):
    pose = find_told_pose(text)
    assert (pose and pose.name) == name


def test_an_unknown_name_is_told_what_is_near():
    with pytest.raises(InvalidRequest) as caught:
        find_pose("wav")
    assert caught.value.code == "invalid_parameter"
    assert caught.value.field == "pose"
    assert "There is no pose named 'wav'; did you mean wave" in caught.value.message
    assert "`understudy poses` lists them." in caught.value.message


def test_a_hopeless_name_is_told_where_to_look():
    with pytest.raises(
        InvalidRequest, match=r"There is no pose named '%+'\. `understudy poses` lists them\."
    ):
        find_pose("%" * 500)


def test_poses_cannot_be_changed_by_who_asks():
    with pytest.raises(ValueError, match="read-only"):
        find_pose("stand").keypoints[0] = 0


def test_sides_in_names_are_the_pictures():
    right, left = find_pose("side_right").keypoints, find_pose("side_left").keypoints
    assert right[0, 0] > right[16, 0]
    assert left[0, 0] < left[17, 0]
    hidden = find_pose("back_view").keypoints[:, 2] == 0
    assert hidden[[0, 14, 15]].all()


def test_a_thumbnail_shows_the_skeleton():
    thumbnail = np.asarray(draw_pose_thumbnail(find_pose("star_jump"), 96))
    assert thumbnail.shape == (96, 96, 3)
    assert (thumbnail.max(axis=2).astype(int) - thumbnail.min(axis=2) > 120).sum() > 100


def test_library_and_page_are_what_the_pose_table_makes():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/draw_poses.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_needs_no_torch():
    code = "import sys, understudy.pose; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
