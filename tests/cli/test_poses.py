"""`understudy poses`: the library as a table, as JSON, as a picture."""

import json

from PIL import Image

from understudy.pose.library import list_poses


def test_the_table_names_every_pose(understudy):
    words = understudy("poses").stdout
    for pose in list_poses():
        assert pose.name in words


def test_json_carries_the_keypoints(understudy):
    shown = json.loads(understudy("poses", "--json").stdout)
    assert [entry["name"] for entry in shown] == [pose.name for pose in list_poses()]
    assert all(len(entry["keypoints"]) == 18 for entry in shown)


def test_one_category(understudy):
    category = list_poses()[0].category
    shown = json.loads(understudy("poses", "--json", "--category", category).stdout)
    assert {entry["category"] for entry in shown} == {category}
    assert "there are" in understudy("poses", "--category", "none such", status=1).stderr


def test_thumbnails(understudy, tmp_path):
    understudy("poses", "--thumbnails", tmp_path / "poses.png")
    with Image.open(tmp_path / "poses.png") as picture:
        assert picture.width > 1000


def test_thumbnails_that_cannot_be_saved_are_told_before_the_list(understudy, tmp_path):
    (tmp_path / "file").touch()
    done = understudy("poses", "--thumbnails", "file/poses.png", status=1)
    assert "'file' cannot be used" in done.stderr.replace(f"{tmp_path}/", "")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_thumbnails_need_a_known_extension(understudy, tmp_path):
    done = understudy("poses", "--thumbnails", "poses", status=2)
    assert ".png" in done.stderr
    assert list(tmp_path.iterdir()) == []
