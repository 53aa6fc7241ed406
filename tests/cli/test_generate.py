"""`understudy generate` and `understudy sheet`, against a service and without one."""

import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode

import pytest
from PIL import Image, ImageColor

from understudy import Client
from understudy.pose.library import find_pose


@pytest.fixture
def ask(understudy, service):
    """`understudy` with the key and the address of the running service."""

    def run(*arguments, **options):
        return understudy(*arguments, api_key=service.key, base_url=f"{service.url}/v1", **options)

    return run


def test_a_picture_is_saved_and_told(ask, picture_path, tmp_path):
    done = ask(
        "generate", "--ip-image", picture_path, "--prompt", "a knight", "-o", "knight.png", "--seed", 7
    )
    with Image.open(tmp_path / "knight.png") as picture:
        assert picture.size == (1024, 1024)
    first = done.stdout.splitlines()[0]
    assert "knight.png" in first
    assert "seed 7" in first


def test_json_is_the_full_result_and_the_files(ask, picture_path):
    done = ask("generate", "--ip-image", picture_path, "--prompt", "a knight", "--json", "--pose", "wave")
    result = json.loads(done.stdout)
    assert result["status"] == "COMPLETED"
    assert result["files"] == ["picture.png"]
    assert result["metrics"]["inference_time"] >= 0


def test_without_a_name_no_file_is_ever_written_over(ask, picture_path, tmp_path):
    for _ in range(2):
        ask("generate", "--ip-image", picture_path, "--prompt", "a knight", "--width", 256, "--height", 256)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["picture-2.png", "picture.png"]


@pytest.mark.parametrize(("ending", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_extension_tells_the_format(ask, picture_path, tmp_path, ending, kind):
    ask("generate", "--ip-image", picture_path, "--prompt", "a knight", "-o", f"knight.{ending}")
    with Image.open(tmp_path / f"knight.{ending}") as picture:
        assert picture.format == kind


def test_several_pictures_go_into_a_folder_by_pose(ask, picture_path, tmp_path):
    ask("generate", "--ip-image", picture_path, "--prompt", "a knight", "--poses", "wave, run", "-o", "many")
    assert sorted(file.name for file in (tmp_path / "many").iterdir()) == ["01-wave.png", "02-run.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", 99), "steps"),
        (("--pose", "wave", "--poses", "run"), "one way"),
        (("--poses", "wave,run", "-o", "one.png"), "folder"),
        (("--output-format", "jpeg", "-o", "one.png"), "--output-format"),
        (("--poses", "wave,run", "-o", "one.gif"), "slash"),
        (("-o", "one.bmp"), ".webp"),
        (("-o", "one.gif"), ".webp"),
        (("--poses", "[[[0.5, 0.5]]]"), "18 keypoints"),
        (("--poses", "[]"), "1 to 24 poses"),
        (("--input-image", "missing.png"), "--input-image"),
        (("--pose", "[[1"), "JSON"),
        (("--pose", "wavs"), "wave"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(ask, picture_path, arguments, words):
    done = ask("generate", "--ip-image", picture_path, "--prompt", "a knight", *arguments, status=2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_wrong_key_says_where_a_key_comes_from(understudy, service, picture_path):
    done = understudy(
        *("generate", "--ip-image", picture_path, "--prompt", "a knight"),
        base_url=service.url,
        api_key="us_nobody",
        status=1,
    )
    assert "UNDERSTUDY_API_KEY" in done.stderr
    assert "us_nobody" not in done.stderr
    assert done.stderr.count("understudy keys create") == 1
    assert done.stderr.count("\n") == 1


def test_no_service_is_one_sentence_and_status_1(understudy, picture_path):
    done = understudy(
        *("generate", "--ip-image", picture_path, "--prompt", "a knight"),
        base_url="http://127.0.0.1:9",
        status=1,
    )
    assert "cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_cancels_the_request(toon_service, picture_path, tmp_path):
    client = Client(toon_service.key, toon_service.url)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "understudy.cli", "generate", "--ip-image", str(picture_path)),
            *("--prompt", "a knight", "--steps", "70", "--num-images", "8"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "UNDERSTUDY_API_KEY": toon_service.key,
            "UNDERSTUDY_BASE_URL": toon_service.url,
            "FORCE_COLOR": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (begun := client.history(status="PROCESSING")["requests"]):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    (request,) = begun
    # The progress bar is gone, and is not drawn again below.
    assert errors.endswith(f"Request {request['request_id']} is cancelled.\n")
    assert client.job(request["request_id"]).status()["code"] == "cancelled"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_drawing_without_a_service_too(picture_path, tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "understudy.cli", "generate", "--local"),
            *("--ip-image", str(picture_path), "--prompt", "a knight", "--steps", "70", "--num-images", "8"),
        ],
        cwd=tmp_path,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
        # What is read letter by letter leaves a part of one behind.
        errors="replace",
    )
    assert process.stderr is not None
    shown = ""
    while "Drawing" not in shown:
        letter = process.stderr.read(1)
        assert letter, shown
        shown += letter
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("Stopped; nothing was saved.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("generate",), ("generate", "--local"), ("sheet",)])
def test_the_picture_given_is_never_written_over(understudy, picture_path, tmp_path, command):
    given = tmp_path / "hero.png"
    given.write_bytes(picture_path.read_bytes())
    (tmp_path / "same.png").symlink_to(given)
    for name in ("hero.png", "../" + tmp_path.name + "/hero.png", "same.png"):
        done = understudy(
            *(*command, "--ip-image", given, "--prompt", "a knight", "-o", name),
            engine="null",
            base_url="http://127.0.0.1:9",
            status=2,
        )
        assert "--ip-image" in done.stderr
        assert "write over" in done.stderr
    assert given.read_bytes() == picture_path.read_bytes()


def test_a_slash_at_the_end_means_a_folder(ask, picture_path, tmp_path):
    asked = ("--ip-image", picture_path, "--prompt", "a knight", "--width", 256, "--height", 256)
    ask("generate", *asked, "-o", "one/")
    ask("generate", *asked, "--poses", "wave,run", "-o", "story.v2/")
    ask("sheet", *asked, "--poses", "wave", "-o", "all/")
    made = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))
    assert made == [
        *("all/sheet.png", "all/sheet/wave.png"),
        *("one/picture.png", "story.v2/01-wave.png", "story.v2/02-run.png"),
    ]


def test_keypoints_are_poses_of_a_sheet_too(ask, picture_path, tmp_path):
    keypoints = find_pose("wave").keypoints[:, :2].tolist()
    asked = ("--ip-image", picture_path, "--prompt", "a knight", "--width", 256, "--height", 256)
    ask("generate", *asked, "--poses", json.dumps(keypoints), "-o", "one.png")
    ask("generate", *asked, "--poses", json.dumps([keypoints, "run"]), "-o", "many/")
    done = ask("sheet", *asked, "--poses", json.dumps(["Wave", keypoints]))
    assert (tmp_path / "one.png").is_file()
    assert sorted(file.name for file in (tmp_path / "many").iterdir()) == ["01-keypoints.png", "02-run.png"]
    assert sorted(file.name for file in (tmp_path / "sheet").iterdir()) == ["keypoints-1.png", "wave.png"]
    assert done.stdout.splitlines()[-1] == "sheet.png  2 pictures"


def test_a_sheet_begins_with_the_character_given(ask, picture_path, tmp_path):
    done = ask(
        *("sheet", "--ip-image", picture_path, "--prompt", "a knight", "--poses", "wave"),
        *("--width", 256, "--height", 256),
    )
    assert done.stdout.splitlines()[-1] == "sheet.png  1 picture"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 320
        colours = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert ImageColor.getrgb("peachpuff") in colours


def test_a_sheet_has_every_pose_and_keeps_the_pictures(ask, picture_path, tmp_path):
    done = ask(
        *("sheet", "--ip-image", picture_path, "--prompt", "a knight", "--poses", "wave,run,sit"),
        *("--columns", 2, "-o", "knight.png", "--width", 256, "--height", 256),
    )
    assert sorted(file.name for file in (tmp_path / "knight").iterdir()) == ["run.png", "sit.png", "wave.png"]
    with Image.open(tmp_path / "knight.png") as sheet:
        assert sheet.height > sheet.width > 2 * 256
    assert "knight.png  3 pictures" in done.stdout


def test_pictures_of_a_sheet_are_saved_as_they_come(service, picture_path, tmp_path):
    client = Client(service.key, service.url)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "understudy.cli", "sheet", "--ip-image", str(picture_path)),
            *("--prompt", "a knight", "--poses", "wave,run,sit,jump,walk,kneel,point,stand"),
            *("--width", "2048", "--height", "2048"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "UNDERSTUDY_API_KEY": service.key,
            "UNDERSTUDY_BASE_URL": service.url,
            "FORCE_COLOR": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (saved := sorted(tmp_path.glob("sheet/*.png"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert client.history(limit=1)["requests"][0]["code"] == "cancelled"
    # What could be had before is there, whole, and nothing else.
    left = sorted(tmp_path.rglob("*.png"))
    assert 0 < len(saved) <= len(left) < 8
    assert f"{len(left)} picture{'s were' if len(left) > 1 else ' was'} saved" in errors
    for file in left:
        with Image.open(file) as picture:
            picture.load()
    assert "wave" in errors, "each picture has a line of its own"


@pytest.mark.parametrize("name", ["sheet", "sheet.bmp"])
def test_a_sheet_without_a_known_extension_asks_for_nothing(understudy, picture_path, tmp_path, name):
    # Nothing listens there: a request would be told as such.
    done = understudy(
        *("sheet", "--ip-image", picture_path, "--prompt", "a knight", "-o", name),
        base_url="http://127.0.0.1:9",
        status=2,
    )
    assert ".png, .jpg, .jpeg, .webp" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["generate", "sheet"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_asked(
    understudy, picture_path, tmp_path, command
):
    (tmp_path / "story").touch()
    done = understudy(
        *(command, "--ip-image", picture_path, "--prompt", "a knight", "-o", "story/one.png"),
        base_url="http://127.0.0.1:9",
        status=1,
    )
    assert "'story' cannot be used" in done.stderr.replace(f"{tmp_path}/", "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("way", [(), ("--local",)], ids=["service", "local"])
def test_what_the_system_refuses_is_one_sentence(ask, picture_path, way):
    asked = ("--ip-image", picture_path, "--prompt", "a knight", "-o", "/proc/nope/a.png")
    done = ask("generate", *way, *asked, engine="null", status=1)
    assert "'/proc/nope' cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_sheet_of_the_whole_library_takes_several_requests(ask, picture_path, tmp_path):
    done = ask(
        *("sheet", "--ip-image", picture_path, "--prompt", "x", "--all", "--width", 256, "--height", 256)
    )
    assert len(list((tmp_path / "sheet").iterdir())) > 24
    assert sum("s in all" in line for line in done.stdout.splitlines()) == 1


def test_local_draws_the_same_picture_as_the_service(understudy, toon_service, picture_path, tmp_path):
    asked = ("--ip-image", picture_path, "--prompt", "a knight", "--pose", "wave")
    asked += ("--steps", 2, "--width", 256, "--height", 256)
    understudy("generate", "--local", *asked, "-o", "alone.png")
    understudy(*("generate", *asked, "-o", "served.png"), api_key=toon_service.key, base_url=toon_service.url)
    with Image.open(tmp_path / "alone.png") as alone, Image.open(tmp_path / "served.png") as served:
        assert alone.size == (256, 256)
        assert alone.tobytes() == served.tobytes()


def test_local_reads_a_data_uri_and_refuses_a_saved_character(understudy, picture_path, tmp_path):
    uri = f"data:image/png;base64,{b64encode(picture_path.read_bytes()).decode()}"
    understudy("generate", "--local", "--ip-image", uri, "--prompt", "a knight", "-o", "a.png", engine="null")
    assert (tmp_path / "a.png").is_file()
    done = understudy(
        *("generate", "--local", "--ip-image", "character:mina", "--prompt", "a knight"),
        engine="null",
        status=2,
    )
    assert "character" in done.stderr


def test_local_says_which_engines_there_are(understudy, picture_path):
    done = understudy(
        *("generate", "--local", "--ip-image", picture_path, "--prompt", "a knight"), engine="oil", status=1
    )
    assert "toon" in done.stderr


def test_local_refuses_what_a_service_refuses_and_sends_no_webhook(understudy, picture_path, tmp_path):
    asked = ("generate", "--local", "--ip-image", picture_path, "-o", "a.png")
    done = understudy(*asked, "--prompt", "a nude teenager", engine="null", status=1)
    assert "content_policy_violation (prompt)" in done.stderr
    assert not (tmp_path / "a.png").exists()
    webhook = ("--webhook-url", "http://127.0.0.1:9/")
    done = understudy(*asked, "--prompt", "a knight", *webhook, engine="null")
    assert "webhook_url was ignored" in done.stdout + done.stderr
