import json
import math
from dataclasses import replace

import numpy as np
import pytest
import understudy_toon
from PIL import Image
from training.toon.artist import Artist, tell_seconds
from training.toon.attributes import ATTRIBUTES, NAMES, NONE
from training.toon.cases import ALIKE, LINEUP, SIDE, differ, draw_lineup, make_case
from training.toon.evaluate import Scope, evaluate
from training.toon.examination import (
    Examined,
    find_removable,
    measure_attributes,
    measure_identity,
    measure_orders,
    measure_pose,
    measure_removals,
    tell_truth,
)
from training.toon.examiner import Examiner
from training.toon.figures import (
    bootstrap,
    measure_frechet,
    measure_mean,
    measure_share,
    measure_sharpness,
)
from training.toon.poses import HELD_OUT_FAMILIES
from training.toon.readers import ANSWER_NAMES

from understudy.engines import DrawRequest

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
        features=np.zeros((count, 2)),
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
    assert not {case.reference_shot.pose.family for case in CASES} & {*HELD_OUT_FAMILIES}
    assert make_case(7) == CASES[7]
    assert len({case.prompt for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.reference_shot.framing.kind == "whole"
        assert case.reference_shot.pose.view in ("front", "three-quarter")


def test_what_an_order_changes_can_be_seen():
    for index, case in enumerate(CASES):
        column = NAMES.index(case.attribute)
        assert getattr(case.changed, case.attribute) != getattr(case.character, case.attribute)
        assert np.any(np.asarray(case.draw_truth()) != np.asarray(case.draw_truth(changed=True)))
        assert ORDERED.answers[index, column] != TRUTH.answers[index, column]


def test_a_lineup_has_its_own_first_and_can_be_told_from_it():
    lineup = draw_lineup(CASES[0])
    assert lineup.shape == (LINEUP, 192, 192, 3)
    assert all(differ(lineup[0], other) for other in lineup[1:])
    pixels = [int((lineup[0] != other).any(axis=2).sum()) for other in lineup[1:]]
    assert np.median(pixels[:ALIKE]) < 0.5 * np.median(pixels[ALIKE:])
    assert np.array_equal(draw_lineup(CASES[0]), lineup)


def test_true_readings_score_high_and_those_of_others_low():
    right = read_truly(TRUTH)
    wrong = right[SHUFFLED]
    lineups = [np.concatenate([right.identities[[index]], np.roll(right.identities, -1 - index, 0)[:-1]])
               for index in range(len(CASES))]  # fmt: skip
    for read, is_right in ((right, True), (wrong, False)):
        identity = measure_identity(read, lineups)
        attributes, pose = measure_attributes(read, TRUTH), measure_pose(read, TRUTH)
        if is_right:
            assert identity.value == attributes["attributes"].value == pose.value == 1
            assert attributes["optional_present"].value == attributes["optional_absent"].value == 1
            assert all(figure is None or figure.value == 1 for figure in attributes.values())
        else:
            assert identity.value == 0
            assert attributes["attributes"].value < 0.5
            assert attributes["optional_present"].value < 0.5
            assert pose.value < 0.3


def test_a_draw_is_no_find():
    same = np.ones((1, 4)) / 2
    read = replace(read_truly(TRUTH)[:1], identities=same)
    assert measure_identity(read, [np.repeat(same, 3, axis=0)]).value == 0


def test_only_what_a_true_drawing_shows_is_counted():
    figures = measure_attributes(read_truly(TRUTH), TRUTH)
    shown = TRUTH.answers[:, NAMES.index("eye_colour")] != NONE
    assert 0 < figures["eye_colour"].count == shown.sum() < len(CASES)
    glasses = TRUTH.answers[:, NAMES.index("glasses")]
    assert figures["glasses"].count == (glasses > ATTRIBUTES["glasses"].index("")).sum()


def test_orders_count_as_followed_only_where_the_picture_shows_it():
    followed = measure_orders(read_truly(ORDERED), CASES, ORDERED, TRUTH)
    ignored = measure_orders(read_truly(TRUTH), CASES, ORDERED, TRUTH)
    assert followed["orders"].value == followed["rest_stays"].value == 1
    assert ignored["orders"].value == 0
    assert ignored["rest_stays"].value == 1
    assert followed["orders"].count == (
        followed["orders_that_add"].count + followed["orders_that_take_away"].count
    )
    others = measure_orders(read_truly(ORDERED)[SHUFFLED], CASES, ORDERED, TRUTH)
    assert others["rest_stays"].value < 0.5


def test_removals_are_seen():
    removable = find_removable(CASES, TRUTH)
    assert removable
    chosen, names = np.array(list(removable)), list(removable.values())
    bare = TRUTH.answers.copy()
    for index, name in removable.items():
        bare[index, NAMES.index(name)] = ATTRIBUTES[name].index("")
    assert measure_removals(read_truly(TRUTH)[chosen], names).value == 0
    assert measure_removals(read_truly(replace(TRUTH, answers=bare))[chosen], names).value == 1


def test_an_artist_draws_once_and_keeps_it(tmp_path):
    checkpoint = understudy_toon.checkpoint_path()
    artist = Artist(checkpoint, tmp_path, device="cpu")
    request = DrawRequest(
        prompt=CASES[0].prompt,
        references=[CASES[0].draw_reference()],
        width=256,
        height=256,
        seed=1,
        steps=2,
        skeleton=TRUTH.skeletons[0] / (4, 4, 1),
    )
    (first,) = artist.draw([request])
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    (again,) = artist.draw([request])
    assert kept.stat().st_mtime_ns == written
    assert again.tobytes() == first.tobytes()
    assert tell_seconds(again) > 0
    for change in ({"steps": 3}, {"prompt": "a hat"}, {"references": [CASES[1].draw_reference()]}):
        artist.draw([replace(request, **change)])
    assert len(list(tmp_path.iterdir())) == 4
    assert artist.reconstruct(CASES[0].draw_truth()).size == (SIDE, SIDE)


def test_the_whole_command_writes_its_report(tmp_path):
    examiner = Examiner(widths=(16, 32, 48, 64), blocks=(1, 1, 1, 1), pyramid_width=32)
    examiner.save_pretrained(tmp_path / "examiner")
    scope = Scope(cases=2, baselines=1, variants=1, strangers=3)
    folder = tmp_path / "evaluation"
    report = evaluate(understudy_toon.checkpoint_path(), tmp_path / "examiner", folder, scope, device="cpu")
    assert json.loads((folder / "evaluation.json").read_text()) == report
    assert {*report["conditions"]} >= {"drawn", "truth", "copy", "reconstruction", "prompt_only", "no_pose"}
    assert report["conditions"]["truth"]["sharpness"]["value"] == 1
    assert report["conditions"]["drawn"]["frechet"]["count"] == scope.cases
    assert report["conditions"]["no_pose"]["identity"]["count"] == scope.baselines
    for figures in report["conditions"].values():
        assert {*ANSWER_NAMES, "identity", "pose", "attributes"} <= {*figures}
    assert [(one["steps"], one["guidance_scale"]) for one in report["variants"]] == [
        (4, 3.0), (10, 3.0), (20, 3.0), (50, 3.0), (10, 1.0), (10, 7.0),
    ]  # fmt: skip
    tables = (folder / "evaluation.md").read_text()
    assert "95 %" in tables
    assert {len(line.split("|")) for line in tables.splitlines()[:8] if line} == {10}
    assert Image.open(folder / "samples.png").size == (192, 6 * 192)
    assert Image.open(folder / "orders.png").width == 192
