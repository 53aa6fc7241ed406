"""Likeness of engines: what is measured is what is said, and what is drawn is drawn once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
)

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import likeness
from artists import EngineArtist, read_engine
from comparison import (
    lay_over,
    measure_detector,
    measure_portfolio,
    read_references,
    score_pose,
    tell_differences,
    tell_figures,
)
from instruments import EmbeddedEncoder, Instruments, PromptNetwork, load_instruments
from portfolios import Portfolio, draw_truths, paste_references, write_orders
from scene_set import (
    POSE_SCENES,
    PROMPT_SCENES,
    SceneSet,
    draw_characters,
    draw_truth,
    read_characters,
)

from running_service import RunningService
from service_client import SLUG
from understudy import UnderstudyError
from understudy.engines.detector import PoseDetector
from understudy.pose.skeleton import measure_torso
from understudy.settings import Settings

SIDE = 256
OTHER_OUTFIT = next(scene for scene in PROMPT_SCENES if not scene.keeps_look)


@pytest.fixture(scope="module")
def scene_set() -> SceneSet:
    """Three characters in two poses, one prompt and another outfit."""
    scenes = (*POSE_SCENES[:2], PROMPT_SCENES[0], OTHER_OUTFIT)
    return SceneSet(draw_characters(3, SIDE), scenes, side=SIDE)


@pytest.fixture(scope="module")
def embedded() -> Instruments:
    """The embedded model's own encoder, real weights, and no detector."""
    return Instruments(EmbeddedEncoder("cpu"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 of the true layout with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def compare_tiny(folder: Path, *more: str) -> dict:
    likeness.main(["--tiny", "--detector", "none", "--folder", str(folder), *more])
    return json.loads((folder / "likeness.json").read_text())


def test_a_comparison_from_the_command_line_goes_on_where_it_was(tmp_path: Path, dino: Path):
    own = ("--engine", "null", "--identity-model", str(dino))
    first = compare_tiny(tmp_path, *own)
    # Two characters in four scenes; without a reference characters differ in nothing.
    assert first["drawn"] == 2 * 4 + 4
    assert set(first["figures"]) == {"null", "null, no reference", "copy-paste", "true drawing"}
    for name in ("likeness_in_poses", "likeness_in_prompts", "consistency", "top_1"):
        assert first["figures"]["copy-paste"][name]["value"] == pytest.approx(1, abs=1e-6)
    assert first["figures"]["null"]["likeness_in_poses"]["value"] < 0.999
    # A flat colour that comes from the seed alone is the same with a reference and without.
    assert first["differences"]["null less null, no reference"]["likeness_in_poses"]["value"] == 0
    assert any(dino.name in fact for fact in first["facts"])
    page = (tmp_path / "likeness.html").read_text()
    # Two references, two poses each, and what two portfolios and the renderer drew.
    assert page.count("<img") == 2 * (1 + 2 + 4 + 4 + 2)

    again = compare_tiny(tmp_path, *own)
    assert again["drawn"] == 0
    assert again["figures"] == first["figures"]

    next((tmp_path / "pictures").glob("*.png")).unlink()
    assert compare_tiny(tmp_path, *own)["drawn"] == 1
    assert compare_tiny(tmp_path, *own, "--steps", "3")["drawn"] == first["drawn"]


def test_another_weight_file_is_another_engine(tmp_path: Path):
    (tmp_path / "model").mkdir()
    settings = Settings(engine="sdxl", sdxl_model=str(tmp_path / "model"))
    before = EngineArtist("sdxl", settings).maker
    assert EngineArtist("sdxl", settings).maker == before
    (tmp_path / "model" / "unet.safetensors").write_bytes(b"weights")
    assert EngineArtist("sdxl", settings).maker != before


def test_a_right_drawing_is_like_its_own_character_and_less_like_another(
    scene_set: SceneSet, embedded: Instruments
):
    truths, _ = draw_truths(scene_set)
    references = read_references(scene_set, embedded)
    scores = measure_portfolio(truths, scene_set, embedded, references)
    figures = tell_figures(scores, scene_set)
    assert figures["likeness_in_poses"].value > figures["likeness_to_another"].value + 0.2
    assert figures["top_1"].value == 1
    # The same pictures, each under the next character's name.
    count = len(scene_set.characters)
    moved = {((row + 1) % count, *rest): picture for (row, *rest), picture in truths.pictures.items()}
    wrong = measure_portfolio(Portfolio("shuffled", "", moved), scene_set, embedded, references)
    told = tell_figures(wrong, scene_set)
    assert told["likeness_in_poses"].value < figures["likeness_to_another"].value + 0.1
    assert told["top_1"].value == 0
    assert told["consistency"].value == pytest.approx(figures["consistency"].value)
    difference = tell_differences(scores, wrong, scene_set)["likeness_in_poses"]
    assert difference.low > 0


def test_another_outfit_is_no_flaw_of_likeness(scene_set: SceneSet, embedded: Instruments):
    copied = paste_references(scene_set)
    changed = scene_set.scenes.index(OTHER_OUTFIT)
    for row in range(len(scene_set.characters)):
        copied.pictures[row, changed, 0] = Image.new("RGB", (SIDE, SIDE), "yellow")
    references = read_references(scene_set, embedded)
    figures = tell_figures(measure_portfolio(copied, scene_set, embedded, references), scene_set)
    assert figures["likeness_in_prompts"].value == pytest.approx(1)
    assert figures["consistency"].value == pytest.approx(1)


def test_what_failed_is_left_out_on_both_sides(scene_set: SceneSet, embedded: Instruments):
    references = read_references(scene_set, embedded)
    copied = measure_portfolio(paste_references(scene_set), scene_set, embedded, references)
    some = paste_references(scene_set)
    some.pictures = {place: picture for place, picture in some.pictures.items() if place[:2] == (1, 0)}
    # It has one picture of one character, a wrong one.
    some.pictures[1, 0, 0] = scene_set.characters[2].reference
    scores = measure_portfolio(some, scene_set, embedded, references)
    own = float(references[1].identity @ references[2].identity)
    figure = tell_figures(scores, scene_set)["likeness_in_poses"]
    assert (figure.value, figure.count) == (pytest.approx(own), 1)
    difference = tell_differences(copied, scores, scene_set)["likeness_in_poses"]
    assert (difference.value, difference.count) == (pytest.approx(1 - own), 1)


def test_a_pose_is_scored_where_it_stands_and_wherever_it_stands():
    asked = POSE_SCENES[0].find_skeleton(1024)
    assert score_pose(asked / (4, 4, 1), (256, 256), asked, 1024) == {
        "found": 1,
        "pck_0.1": 1,
        "pck_0.2": 1,
        "pck_0.1_placed": 1,
    }
    elsewhere = asked * (0.5, 0.5, 1) + (40, 90, 0)
    elsewhere[asked[:, 2] == 0] = 0
    scores = score_pose(elsewhere, (1024, 1024), asked, 1024)
    assert scores["pck_0.2"] < 0.5
    assert scores["pck_0.1_placed"] == 1
    other = POSE_SCENES[1].find_skeleton(1024)
    assert score_pose(other, (1024, 1024), asked, 1024)["pck_0.1_placed"] < 0.7
    # A mirror image is no scaled one.
    mirrored = asked * (-1, 1, 1) + (1024, 0, 0)
    assert numpy.ptp(lay_over(mirrored, asked)[:, 0]) < numpy.ptp(asked[:, 0])
    assert not any(score_pose(None, (64, 64), asked, 1024).values())


def test_the_detectors_own_error_is_told(scene_set: SceneSet, embedded: Instruments):
    truths, skeletons = draw_truths(scene_set)
    known = {truths.open(place).tobytes(): skeleton for place, skeleton in skeletons.items()}

    def find(blue_first: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Where the keypoints are, a seventh of the torso too far to the right."""
        skeleton = known[numpy.ascontiguousarray(blue_first[..., ::-1]).tobytes()]
        points = skeleton[:, :2] + (measure_torso(skeleton) / 7, 0)
        return points[None], skeleton[None, :, 2]

    instruments = Instruments(embedded.identity, PoseDetector(find), "a detector with a known error")
    error = measure_detector(truths, skeletons, instruments)
    assert error["pck_0.1"].value == 0
    assert error["pck_0.2"].value == 1
    assert measure_detector(truths, skeletons, embedded) == {}


def test_characters_are_the_same_every_time_and_none_is_anothers_double():
    characters = draw_characters(30, 64)
    pictures = [character.reference.tobytes() for character in characters]
    assert len(set(pictures)) == 30
    assert draw_characters(4, 64)[3].reference.tobytes() == pictures[3]
    assert len({character.caption for character in characters}) == 30
    right, skeleton = draw_truth(characters[0], "side_right", 64)
    left, mirrored = draw_truth(characters[0], "side_left", 64)
    assert right.tobytes() != left.tobytes()
    nose, neck = 0, 1
    assert (skeleton[nose] - skeleton[neck])[0] > 0 > (mirrored[nose] - mirrored[neck])[0]


def test_every_scene_has_a_seed_of_its_own():
    scene_set = SceneSet(draw_characters(1, 64), POSE_SCENES + PROMPT_SCENES, seeds=3, side=64)
    orders = write_orders(scene_set, steps=1, guidance_scale=1.0, captions=True)
    assert len({order.seed for order in orders.values()}) == len(orders) == 19 * 3
    assert all(order.prompt.startswith(scene_set.characters[0].caption) for order in orders.values())
    fewer = SceneSet(scene_set.characters, PROMPT_SCENES[:1], side=64)
    (order,) = write_orders(fewer, steps=1, guidance_scale=1.0, captions=True).values()
    assert order.digest() == orders[0, len(POSE_SCENES), 0].digest()


def test_a_users_own_characters_are_read(tmp_path: Path):
    Image.new("RGBA", (40, 90), (255, 0, 0, 0)).save(tmp_path / "anna.png")
    (tmp_path / "anna.txt").write_text("a woman\nin a red coat\n")
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "ben.JPG")
    (tmp_path / "notes.md").write_text("not a picture")
    anna, ben = read_characters(tmp_path)
    assert (anna.name, anna.caption, ben.caption) == ("anna", "a woman in a red coat", "")
    # What is transparent lies on white.
    assert anna.reference.getpixel((0, 0)) == (255, 255, 255)
    scene_set = SceneSet([anna, ben], POSE_SCENES[:1], side=64)
    assert draw_truths(scene_set)[0].pictures == {}
    (tmp_path / "carl.png").write_bytes(b"no picture")
    with pytest.raises(UnderstudyError, match=r"carl\.png cannot be read"):
        read_characters(tmp_path)
    with pytest.raises(UnderstudyError, match="no picture"):
        read_characters(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sdxxl", "engine of --engine 'sdxxl'"),
        ("sdxl sdxl_modell=x", "no setting=value"),
        ("sdxl devices=many", "devices of --engine"),
    ],
)
def test_an_engine_that_there_is_not_is_told(words: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_engine(words, "cpu")


def test_an_engine_may_have_settings_and_a_label_of_its_own():
    named, plain = read_engine("mine=sdxl sdxl_preset=hyper", "cpu"), read_engine("sdxl", "cpu")
    assert (named.label, plain.label) == ("mine", "sdxl")
    assert (named.settings.engine, named.settings.sdxl_preset) == ("sdxl", "hyper")
    assert named.maker != plain.maker
    assert "xinsir/controlnet-openpose-sdxl-1.0 at" in named.weights
    with pytest.raises(SystemExit, match="same label"):
        likeness.main(["--tiny", "--engine", "null", "--engine", "null"])


def test_a_network_that_is_not_there_ends_the_run_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    for place in (str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(SystemExit) as ended:
            likeness.main(["--engine", "null", "--tiny", "--identity-model", place])
        assert str(ended.value).startswith("likeness: --identity-model")
        assert "\n" not in str(ended.value)
        assert "or embedded, which needs no download" in str(ended.value)


def test_a_prompts_network_tells_the_cosine_of_words_and_picture(tmp_path: Path):
    torch.manual_seed(0)
    letters = ["<|startoftext|>", "<|endoftext|>", *"catx", *(f"{letter}</w>" for letter in "catx")]
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            vocab_size=len(letters), bos_token_id=0, eos_token_id=1, **sizes
        ).to_dict(),
        vision_config=CLIPVisionConfig(image_size=28, patch_size=14, **sizes).to_dict(),
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(tmp_path)
    network = PromptNetwork(str(tmp_path), "cpu")
    pictures = [Image.new("RGB", (40, 60), colour) for colour in ("red", "blue")]
    scores = [network.score(picture, text) for picture in pictures for text in ("a cat", "x" * 400)]
    assert len(set(scores)) > 2
    assert all(0 <= score <= 100 for score in scores)
    assert network.score(pictures[0], "a cat") == scores[0]


def test_a_service_draws_as_an_engine_does_and_what_it_refuses_is_left_out(
    start_service: Callable[..., RunningService],
    tmp_path: Path,
    dino: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    service = start_service(engine="null", block_terms="raincoat")
    monkeypatch.setenv("UNDERSTUDY_API_KEY", service.key)
    own = ("--engine", "null", "--identity-model", str(dino))
    slugs = (SLUG, "understudy-null")
    served = ("--service", service.url, *(f"--model={slug}" for slug in slugs))
    scenes = ("--poses", "1", "--prompts", str(PROMPT_SCENES.index(OTHER_OUTFIT) + 1))
    report = compare_tiny(tmp_path, *own, *served, *scenes)
    # Two characters in another outfit, by two models, with a reference and without.
    assert report["failures"] == 8
    assert any("content_policy_violation" in remark for remark in report["remarks"])
    for slug, ending in product(slugs, ("", ", no reference")):
        assert report["figures"][slug + ending] == report["figures"][f"null{ending}"]


def test_the_report_says_that_the_embedded_encoder_flatters():
    instruments = load_instruments(
        identity="embedded", prompt=None, detector="none", dreamsim=False, device="cpu"
    )
    assert "flatters the embedded model" in instruments.identity.name
