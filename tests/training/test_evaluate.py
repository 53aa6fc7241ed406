import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import understudy_toon
from PIL import Image
from training.toon import artist as drawing
from training.toon import cases, evaluation
from training.toon import evaluate as command
from training.toon.artist import Artist
from training.toon.attributes import ATTRIBUTES, NAMES, NONE
from training.toon.cases import ALIKE, CROWD, SIDE, differ, draw_crowd, make_case
from training.toon.evaluate import VARIANTS, Scope, evaluate
from training.toon.evaluation import Condition, Evaluation, Material
from training.toon.examination import (
    OPTIONAL_ATTRIBUTES,
    Examined,
    Instruments,
    examine,
    find_removable,
    mark_attributes,
    mark_identity,
    mark_pose,
    measure_answers,
    measure_marks,
    measure_obedience,
    measure_removals,
    tell_truth,
)
from training.toon.examiner import Examiner
from training.toon.figures import (
    Marks,
    bootstrap,
    compare_excess,
    measure_difference,
    measure_frechet,
    measure_mean,
    measure_share,
    measure_sharpness,
)
from training.toon.loupe import PIECES, Loupe
from training.toon.poses import HELD_OUT_FAMILIES
from training.toon.readers import ANSWER_NAMES
from training.toon.scores import measure_detector, tell_likeness
from training.toon.wording import SCENE_WORDS

from understudy.engines import DrawRequest
from understudy.engines.toon_detector import ToonDetector
from understudy.pose.skeleton import measure_torso
from understudy.worker import choose_candidate_seed

CASES = [make_case(number) for number in range(30)]
TRUTH = tell_truth(CASES)
ORDERED = tell_truth(CASES, changed=True)
SHUFFLED = np.roll(np.arange(len(CASES)), 1)


def read_truly(truth):
    """What an examiner would read that makes no mistake; what cannot be seen it reads as the first."""
    count = len(truth.answers)
    return Examined(
        answers=truth.answers.clip(min=0),
        identities=np.eye(count),
        points=np.stack([skeleton[:, :2] for skeleton in truth.skeletons]),
        features=np.zeros((count, PIECES, 2)),
        sharpness=np.ones(count),
    )


def test_shares_have_wilsons_interval():
    figure = measure_share([True] * 8 + [False] * 2)
    assert (figure.value, figure.count) == (0.8, 10)
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998): 81 of 263.
    figure = measure_share([True] * 81 + [False] * 182)
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.2553, 0.3662)
    assert measure_share([True] * 10).low == pytest.approx(0.7225, abs=1e-4)
    assert measure_share([]) is None


def test_means_are_weighted_and_their_intervals_shrink_with_more():
    assert measure_mean([1, 0, 5], [3, 1, 0]).value == 0.75
    assert measure_mean([1, 2], [0, 0]) is None
    rng = np.random.default_rng(0)
    few, many = measure_mean(rng.normal(size=50)), measure_mean(rng.normal(size=5000))
    assert few.low < 0 < few.high
    assert many.high - many.low == pytest.approx(2 * 1.96 / 5000**0.5, rel=0.1)


def test_the_frechet_distance_is_that_of_normal_distributions():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4000, 3))
    moved = first + np.array((3, 0, 4))
    assert measure_frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert measure_frechet(first, moved) == pytest.approx(25, rel=1e-6)
    # Of scaled copies it is the sum of (s1 - s2)^2 over the axes, and of their means.
    wide = (first - first.mean(axis=0)) * (2, 3, 1)
    centred = first - first.mean(axis=0)
    assert measure_frechet(centred, wide) == pytest.approx(1 + 4, rel=0.1)
    figure = bootstrap(lambda chosen: measure_frechet(first[chosen], moved), 4000, resamples=50)
    assert figure.low < 25 < figure.high


def test_a_difference_is_between_pictures_of_the_same_cases():
    rng = np.random.default_rng(0)
    hardness = rng.random(200)
    lower, ones = Marks(hardness, np.ones(200)), np.ones(200)
    figure = measure_difference(Marks(hardness + 0.1, ones), lower)
    assert figure.value == pytest.approx(0.1)
    # Each of the two is only known to .04: what they share is in neither end.
    assert figure.low == pytest.approx(0.1)
    assert figure.high == pytest.approx(0.1)
    assert measure_difference(lower, Marks(hardness + 0.1, ones)).value == pytest.approx(-0.1)
    shuffled = measure_difference(Marks(rng.permutation(hardness) + 0.1, ones), lower)
    assert shuffled.high - shuffled.low > 0.08
    # What has no weight in one of them counts in neither, and weights are counted.
    first = Marks(np.array([1.0, 1.0, 0.0]), np.array([3.0, 1.0, 1.0]))
    second = Marks(np.array([0.0, 1.0, 5.0]), np.array([3.0, 1.0, 0.0]))
    assert measure_difference(first, second).value == pytest.approx(0.75)
    assert measure_difference(first, second).count == 2
    assert measure_difference(first, replace(second, weights=np.zeros(3))) is None


@pytest.mark.parametrize("kind", ["shift", "spread"])
def test_an_excess_is_not_hidden_by_what_few_pictures_cost(kind):
    rng = np.random.default_rng(0)
    true, others = rng.normal(size=(400, 60)), rng.normal(size=(400, 60))

    def spoil(amount):
        # The Frechet distance grows with the square of either.
        return true + amount**0.5 * 0.15 if kind == "shift" else true * (1 + amount**0.5 * 0.15)

    floor, allowed = measure_frechet(true, others), measure_frechet(spoil(1), others)
    plain = measure_frechet(spoil(2), others) / allowed
    assert compare_excess(spoil(1), spoil(1), true, others) == 1
    assert compare_excess(spoil(2), spoil(1), true, others) == pytest.approx(2, rel=0.2)
    assert plain < 1.5
    assert floor > 0.5 * allowed
    assert compare_excess(true, spoil(1), true, others) == 0
    # Nothing is as good as reconstructions that have no flaw at all.
    assert compare_excess(spoil(1), true, true, others) > 100


@pytest.mark.parametrize("contrast", [80, 250])
def test_sharpness_is_that_of_the_edge_whatever_its_contrast(contrast):
    x = np.arange(200) - 99.5
    step = np.where(x > 0, contrast, 0.0)
    assert measure_sharpness(paint(step)) == pytest.approx(0.5, abs=0.01)
    for blur in (1.0, 1.5):
        bell = np.exp(-(x**2) / (2 * blur**2))
        slope = contrast * np.cumsum(bell) / bell.sum()
        steepest = math.erf(1 / blur / 2**0.5) / 2
        assert measure_sharpness(paint(slope)) == pytest.approx(steepest, rel=0.05)
    assert measure_sharpness(paint(np.full(200, 90.0))) == 0


def paint(row):
    return np.rint(np.broadcast_to(row[None, :, None], (60, len(row), 3))).astype(np.uint8)


def test_a_blurred_drawing_is_less_sharp():
    picture = CASES[0].draw_truth()
    small = picture.resize((SIDE // 4, SIDE // 4), Image.Resampling.BOX)
    blurred = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC))
    assert measure_sharpness(blurred) < 0.7 * measure_sharpness(np.asarray(picture))


def test_cases_are_held_out_and_always_the_same():
    families = [case.shot.pose.family for case in CASES]
    assert sorted(families) == sorted(HELD_OUT_FAMILIES * 3)
    plain = {shot.pose.family for case in CASES for shot in (*case.reference_shots, case.crowd_shot)}
    assert not plain & {*HELD_OUT_FAMILIES}
    assert make_case(7) == CASES[7]
    assert len({case.prompt for case in CASES}) == len(CASES)
    for case in CASES:
        assert len({case.shot, *case.reference_shots, case.crowd_shot}) == 4
        for shot in case.reference_shots:
            assert shot.framing.kind == "whole"
            assert shot.pose.view in ("front", "three-quarter")


def test_a_direction_tells_nothing_of_the_character():
    told = {word for name in ("hair", "top", "bottom", "shoes", "hat") for word in ATTRIBUTES[name] if word}
    told |= {*ATTRIBUTES["top_colour"], "hair", "man", "woman", "boy", "girl"}
    for case in CASES:
        pose, face, scene = case.direction.split(", ")
        assert not told & {*pose.split(), *face.split()}
        assert any(scene in words for words in SCENE_WORDS.values())
        assert told & {*case.prompt.replace(",", "").split()}
    # It is for the shot alone: two characters in one shot would have the same.
    assert len({case.direction for case in CASES}) > 20


def test_what_an_order_changes_can_be_seen():
    for index, case in enumerate(CASES):
        column = NAMES.index(case.attribute)
        assert getattr(case.changed, case.attribute) != getattr(case.character, case.attribute)
        assert np.any(np.asarray(case.draw_truth()) != np.asarray(case.draw_truth(changed=True)))
        assert ORDERED.answers[index, column] != TRUTH.answers[index, column]


def test_a_crowd_has_its_own_first_and_can_be_told_from_it():
    crowd = draw_crowd(CASES[0])
    assert crowd.shape == (CROWD, 192, 192, 3)
    assert all(differ(crowd[0], other) for other in crowd[1:])
    pixels = [int((crowd[0] != other).any(axis=2).sum()) for other in crowd[1:]]
    assert np.median(pixels[:ALIKE]) < 0.5 * np.median(pixels[ALIKE:])
    assert np.array_equal(draw_crowd(CASES[0]), crowd)


def test_a_crowd_with_too_few_alike_is_refused(monkeypatch):
    monkeypatch.setattr(cases, "_MOST_TRIES", 10)
    with pytest.raises(ValueError, match="fewer than 20"):
        draw_crowd(CASES[0])


def test_true_readings_score_high_and_those_of_others_low():
    right = read_truly(TRUTH)
    wrong = right[SHUFFLED]
    crowds = [np.concatenate([right.identities[[index]], np.roll(right.identities, -1 - index, 0)[:-1]])
              for index in range(len(CASES))]  # fmt: skip
    for read, is_right in ((right, True), (wrong, False)):
        identity = measure_marks(mark_identity(read, crowds))
        attributes, pose = measure_marks(mark_attributes(read, TRUTH)), measure_marks(mark_pose(read, TRUTH))
        answers = measure_answers(read, TRUTH)
        if is_right:
            assert identity.value == attributes.value == pose.value == 1
            assert answers["optional_present"].value == answers["optional_absent"].value == 1
            assert all(figure is None or figure.value == 1 for figure in answers.values())
        else:
            assert identity.value == 0
            assert attributes.value < 0.5
            assert answers["optional_present"].value < 0.5
            assert pose.value < 0.3


def test_a_pose_that_is_off_is_right_only_within_its_threshold():
    read = read_truly(TRUTH)
    lengths = np.array([measure_torso(one) for one in TRUTH.skeletons])
    moved = replace(read, points=read.points + 0.07 * lengths[:, None, None] * (1, 0))
    assert measure_marks(mark_pose(moved, TRUTH)).value == 1
    assert measure_marks(mark_pose(moved, TRUTH, threshold=0.05)).value == 0


def test_a_draw_is_no_find():
    same = np.ones((1, 4)) / 2
    read = replace(read_truly(TRUTH)[:1], identities=same)
    assert mark_identity(read, [np.repeat(same, 3, axis=0)]).values == [0]


def test_only_what_a_true_drawing_shows_is_counted():
    figures = measure_answers(read_truly(TRUTH), TRUTH)
    shown = TRUTH.answers[:, NAMES.index("eye_colour")] != NONE
    assert 0 < figures["eye_colour"].count == shown.sum() < len(CASES)
    glasses = TRUTH.answers[:, NAMES.index("glasses")]
    assert figures["glasses"].count == (glasses > ATTRIBUTES["glasses"].index("")).sum()


def test_orders_count_as_followed_only_where_the_picture_shows_it():
    followed = measure_obedience(read_truly(ORDERED), CASES, ORDERED, TRUTH)
    ignored = measure_obedience(read_truly(TRUTH), CASES, ORDERED, TRUTH)
    assert followed["orders"].value == followed["rest_stays"].value == 1
    assert ignored["orders"].value == 0
    assert ignored["rest_stays"].value == 1
    assert followed["orders"].count == (
        followed["orders_that_add"].count + followed["orders_that_take_away"].count
    )
    others = measure_obedience(read_truly(ORDERED)[SHUFFLED], CASES, ORDERED, TRUTH)
    assert others["rest_stays"].value < 0.5


def test_removals_are_seen():
    removable = find_removable(CASES, TRUTH)
    # Of what a character has not always the same is named.
    several = {
        index: [name for name in OPTIONAL_ATTRIBUTES if getattr(CASES[index].character, name)]
        for index in removable
    }
    assert any(several[index].index(name) > 0 for index, name in removable.items())
    chosen, names = np.array(list(removable)), list(removable.values())
    bare = TRUTH.answers.copy()
    for index, name in removable.items():
        bare[index, NAMES.index(name)] = ATTRIBUTES[name].index("")
    assert measure_removals(read_truly(TRUTH)[chosen], names).value == 0
    assert measure_removals(read_truly(replace(TRUTH, answers=bare))[chosen], names).value == 1


def ask(**changes):
    return replace(
        DrawRequest(
            prompt=CASES[0].prompt,
            references=[CASES[0].draw_reference()],
            width=256,
            height=256,
            seed=1,
            steps=2,
            skeleton=TRUTH.skeletons[0] / (4, 4, 1),
        ),
        **changes,
    )


def test_an_artist_draws_once_and_keeps_it(tmp_path, monkeypatch):
    checkpoint = understudy_toon.checkpoint_path()
    artist = Artist(checkpoint, tmp_path, device="cpu")
    (first,) = artist.draw([ask()])
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    (again,) = artist.draw([ask()])
    assert kept.stat().st_mtime_ns == written
    assert again.tobytes() == first.tobytes()
    for change in ({"steps": 3}, {"prompt": "a hat"}, {"references": [CASES[1].draw_reference()]}):
        artist.draw([ask(**change)])
    assert len(list(tmp_path.iterdir())) == 4
    assert artist.reconstruct(CASES[0].draw_truth()).size == (SIDE, SIDE)
    assert len(artist.time_drawing(ask(seed=seed) for seed in range(4))) == 2
    assert len(list(tmp_path.iterdir())) == 4
    # Another version of what draws draws anew.
    monkeypatch.setattr(drawing.diffusers, "__version__", "0.0")
    Artist(checkpoint, tmp_path, device="cpu").draw([ask()])
    assert len(list(tmp_path.iterdir())) == 5


def test_an_artist_scores_as_its_own_checkpoint_does(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(understudy_toon.checkpoint_path(), checkpoint)
    shutil.rmtree(checkpoint / "pose_detector", ignore_errors=True)
    request, truth = ask(width=SIDE, height=SIDE, skeleton=TRUTH.skeletons[0]), CASES[0].draw_truth()
    artist = Artist(checkpoint, tmp_path / "drawn", device="cpu")
    likeness = artist.score_likeness(request.references, truth)
    assert not artist.has_detector
    assert artist.score(request, truth) == likeness
    assert artist.score_likeness(request.references, request.references[0]) == pytest.approx(1)
    torch.manual_seed(0)
    ToonDetector().save_pretrained(checkpoint / "pose_detector")
    artist = Artist(checkpoint, tmp_path / "drawn", device="cpu")
    figures = measure_detector(artist, [truth], TRUTH.skeletons[:1])
    assert artist.has_detector
    assert figures["pck_0.05"].value <= figures["pck_0.1"].value < 0.5
    assert artist.score(request, truth) == pytest.approx((likeness + figures["pck_0.1"].value) / 2, abs=1e-4)


class Finder:
    """Stands where an artist does, and finds what it is told, one after another."""

    def __init__(self, found):
        self._found = iter(found)

    def find_skeleton(self, picture):
        return next(self._found)


def test_a_detector_that_finds_nobody_has_found_no_keypoint():
    skeletons = TRUTH.skeletons[:2]
    figures = measure_detector(Finder([skeletons[0], None]), [None, None], skeletons)
    assert figures["pck_0.1"].value == figures["pck_0.05"].value == figures["found"].value == 0.5


def test_likeness_is_told_apart_for_those_alike_and_for_strangers():
    figures = tell_likeness(np.array([[0.9, 0.8, 0.95, 0.1], [0.5, 0.4, 0.4, 0.6]]), alike=2)
    assert {name: round(figure.value, 4) for name, figure in figures.items()} == {
        "own": 0.7, "alike": 0.6375, "strangers": 0.35, "above_alike": 0.75, "above_strangers": 0.5,
        "above_all": 0.0,
    }  # fmt: skip


def make_instruments():
    torch.manual_seed(0)
    examiner = Examiner(widths=(16, 32, 48, 64), blocks=(1, 1, 1, 1), pyramid_width=32)
    return Instruments(examiner.eval(), Loupe(widths=(8, 16, 24, 32)).eval())


class Painter:
    """Stands where an artist does: its third candidate is the true drawing, and scores the highest."""

    def draw(self, requests):
        third = choose_candidate_seed(0, 2)
        grey = Image.new("RGB", (SIDE, SIDE), "grey")
        return [CASES[0].draw_truth() if one.seed == third else grey for one in requests]

    def score(self, request, picture):
        return [0.2, 0.4, 0.9, 0.8][request.seed // choose_candidate_seed(0, 1)]


def test_the_best_of_four_is_the_one_that_the_product_would_choose():
    instruments, truth = make_instruments(), TRUTH[:1]
    right = examine(instruments, [(CASES[0].draw_truth(), truth.skeletons[0])])
    crowd = np.concatenate([right.identities, -right.identities])
    material = Material(CASES[:1], truth, [crowd], right, right)
    best, _ = Evaluation(instruments, Painter(), material).compare_best(Condition(), 1, 4)
    assert best["sharpness"].value == best["identity"].value == 1
    # The first candidate is grey.
    worst, _ = Evaluation(instruments, Painter(), material).compare_best(Condition(), 1, 2)
    assert worst["sharpness"].value == 0


def test_conditions_leave_out_what_they_say():
    material = Material(CASES[:1], TRUTH[:1], [], None, None)
    asker = Evaluation(None, None, material)
    whole, bare = asker.ask(0, Condition()), asker.ask(0, Condition("none", 0, posed=False))
    assert (whole.prompt, whole.steps, whole.guidance_scale) == (CASES[0].direction, 10, 3.0)
    assert whole.references == [CASES[0].draw_reference()]
    assert whole.skeleton is TRUTH.skeletons[0]
    assert bare.prompt == ""
    assert bare.references[0].getextrema() == ((128, 128),) * 3
    # Not None, for which the engine would take its usual pose.
    assert not bare.skeleton.any()
    assert asker.ask(0, Condition("full")).prompt == CASES[0].prompt
    assert asker.ask(0, Condition("order")).prompt == CASES[0].order
    first, second = asker.ask(0, Condition(references=2)).references
    assert first == whole.references[0] != second


def test_fewer_characters_are_fewer_of_everything():
    scope = Scope().limit(50)
    assert (scope.cases, scope.baselines, scope.many_steps, scope.pairs, scope.strangers) == (50,) * 5
    assert Scope().limit(Scope.cases) == Scope()
    assert scope.count_cases(VARIANTS[0]) == scope.variants
    assert Scope().count_cases(VARIANTS[3]) == Scope.many_steps < Scope.variants


def test_variants_are_those_of_the_aims():
    assert [(one.steps, one.guidance_scale) for one in VARIANTS] == [
        (4, 3.0), (10, 3.0), (20, 3.0), (50, 3.0), (10, 1.0), (10, 7.0),
    ]  # fmt: skip


@pytest.mark.slow
def test_the_whole_command_writes_its_report(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_RESAMPLES", 4)
    monkeypatch.setattr(command, "CANDIDATES", 2)
    monkeypatch.setattr(command, "VARIANTS", (Condition(), Condition(steps=2)))
    instruments = make_instruments()
    instruments.examiner.save_pretrained(tmp_path / "networks" / "examiner")
    instruments.loupe.save_pretrained(tmp_path / "networks" / "loupe")
    scope = Scope(cases=2, baselines=1, orders=1, variants=1, many_steps=1, pairs=1, strangers=3, timed=1)
    folder = tmp_path / "evaluation"
    report = evaluate(understudy_toon.checkpoint_path(), tmp_path / "networks", folder, scope, device="cpu")
    assert json.loads((folder / "evaluation.json").read_text()) == report
    conditions = report["conditions"]
    assert {*conditions} >= {"drawn", "truth", "copy", "reconstruction", "prompt_only", "no_reference"}
    assert conditions["truth"]["sharpness"]["value"] == 1
    assert conditions["drawn"]["frechet"]["count"] == scope.cases
    assert conditions["no_pose"]["identity"]["count"] == scope.baselines
    for figures in conditions.values():
        assert {*ANSWER_NAMES, "identity", "pose", "attributes"} <= {*figures}
    variants = report["variants"]
    assert [(one["steps"], one["guidance_scale"]) for one in variants] == [(10, 3.0), (2, 3.0)]
    assert set(variants[0]["differences"]["frechet_ratio"].values()) == {0.0, 1}
    assert all(one["median_seconds"] > 0 for one in variants)
    assert report["pairs"]["best_of_four"]["differences"]["identity"]["count"] == scope.pairs
    assert report["scores"]["likeness"]["own"]["count"] == scope.pairs
    tables = (folder / "evaluation.md").read_text()
    assert "validation and test share their families" in tables
    for table in tables.split("\n\n")[2:]:
        assert len({line.count(" | ") for line in table.strip().splitlines()}) == 1
    assert Image.open(folder / "samples.png").size == (192, 6 * 192)
    assert Image.open(folder / "orders.png").width == 192
