import numpy as np
import pytest
from bodies import posed_bodies
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.pose import (
    KEYPOINT_NAMES,
    LIMBS,
    find_face,
    find_head,
    find_pose,
    fit_skeleton,
    list_poses,
    measure_body,
    mirror_skeleton,
    read_keypoints,
    retarget_skeleton,
    scale_to_canvas,
    scale_to_fractions,
    score_oks,
    score_pck,
    visible_keypoints,
)

LEFT_WRIST, LEFT_ELBOW, LEFT_SHOULDER = 7, 6, 5


def limb_vectors(keypoints):
    return np.array([keypoints[child, :2] - keypoints[parent, :2] for parent, child in LIMBS])


def test_limbs_are_a_tree_that_starts_at_the_neck():
    reached = {1}
    for parent, child in LIMBS:
        assert parent in reached
        assert child not in reached
        reached.add(child)
    assert len(reached) == len(KEYPOINT_NAMES) == 18


def test_keypoints_may_lack_confidence_or_be_missing():
    keypoints = read_keypoints([[0.5, 0.25], [0.5, 0.5, 0.75], None, *[[0, 0, 0]] * 15])
    assert keypoints[0].tolist() == [0.5, 0.25, 1]
    assert keypoints[1].tolist() == [0.5, 0.5, 0.75]
    assert visible_keypoints(keypoints).tolist() == [True, True] + [False] * 16


@pytest.mark.parametrize("values", [[], [[0, 0]] * 17, [[0]] * 18, [[0, float("nan")]] * 18, [[0] * 4] * 18])
def test_what_is_no_skeleton_is_refused(values):
    with pytest.raises(ValueError):
        read_keypoints(values)


@given(posed_bodies(512), st.integers(256, 2048), st.integers(256, 2048))
@settings(deadline=None)
def test_fractions_and_pixels_undo_each_other(keypoints, width, height):
    back = scale_to_fractions(scale_to_canvas(keypoints, width, height), width, height)
    assert np.allclose(back, keypoints)


@given(posed_bodies(512))
@settings(deadline=None)
def test_mirroring_twice_changes_nothing(keypoints):
    assert np.allclose(mirror_skeleton(mirror_skeleton(keypoints, 512), 512), keypoints)


def test_mirroring_swaps_the_sides_of_the_body():
    wave = find_pose("wave").keypoints
    mirrored = mirror_skeleton(wave, 1)
    assert np.allclose(mirrored[4], (1 - wave[LEFT_WRIST, 0], wave[LEFT_WRIST, 1], 1))
    hidden = find_pose("back_view").keypoints
    assert np.array_equal(mirror_skeleton(hidden, 1)[:, 2], hidden[:, 2])


@given(posed_bodies(512), st.integers(256, 2048), st.integers(256, 2048))
@settings(deadline=None)
def test_a_fitted_body_keeps_its_proportions_and_stays_inside(keypoints, width, height):
    fitted = fit_skeleton(keypoints, width, height, margin=0.05)
    left, top, right, bottom = measure_body(fitted)
    edge = 0.05 * min(width, height) - 1e-6
    assert left >= edge
    assert top >= edge
    assert right <= width - edge
    assert bottom <= height - edge
    assert left + right == pytest.approx(width)
    visible = visible_keypoints(keypoints)
    before, after = keypoints[visible, :2], fitted[visible, :2]
    scale = np.ptp(after[:, 0]) / np.ptp(before[:, 0])
    assert np.allclose(after - after[0], scale * (before - before[0]))
    assert np.array_equal(fitted[:, 2], keypoints[:, 2])


def test_fitting_does_not_blow_up_who_crouches():
    stand = fit_skeleton(find_pose("stand").keypoints, 1024, 1024)
    crouch = fit_skeleton(find_pose("sit_side").keypoints, 1024, 1024)

    def shin(keypoints):
        return np.hypot(*(keypoints[10, :2] - keypoints[9, :2]))

    assert shin(crouch) == pytest.approx(shin(stand), rel=0.15)


def test_nothing_can_be_fitted_without_a_visible_point():
    with pytest.raises(ValueError, match="no visible keypoint"):
        fit_skeleton(np.zeros((18, 3)), 512, 512)


@given(posed_bodies(512), st.floats(0.5, 2))
@settings(deadline=None)
def test_retargeting_to_a_scaled_body_scales_every_bone(keypoints, factor):
    own = find_pose("t_pose").keypoints
    scaled = own * (factor, factor, 1)
    retargeted = retarget_skeleton(keypoints, scaled, drawn_from=own)
    both = [(p, c) for p, c in LIMBS if keypoints[p, 2] > 0 and keypoints[c, 2] > 0]
    for parent, child in both:
        before = keypoints[child, :2] - keypoints[parent, :2]
        assert np.allclose(retargeted[child, :2] - retargeted[parent, :2], factor * before)
    assert np.array_equal(retargeted[:, 2], keypoints[:, 2])


def test_retargeting_changes_lengths_and_keeps_directions():
    own = find_pose("t_pose").keypoints
    long_arms = own.copy()
    for elbow, wrist, shoulder in ((3, 4, 2), (6, 7, 5)):
        long_arms[elbow, 0] += own[elbow, 0] - own[shoulder, 0]
        long_arms[wrist, 0] = long_arms[elbow, 0] + 2 * (own[wrist, 0] - own[elbow, 0])
    wave = find_pose("wave").keypoints
    retargeted = retarget_skeleton(wave, long_arms, drawn_from=own)
    before, after = limb_vectors(wave), limb_vectors(retargeted)
    arms = [LIMBS.index(limb) for limb in ((2, 3), (3, 4), (5, 6), (6, 7))]
    assert np.allclose(after[arms], 2 * before[arms], rtol=1e-3)
    others = [index for index in range(17) if index not in arms]
    assert np.allclose(after[others], before[others])


def test_retargeting_guesses_lengths_from_the_longer_side():
    run = find_pose("run").keypoints
    assert np.allclose(retarget_skeleton(run, run * (2, 2, 1))[9, :2] - run[1, :2], 2 * (run[9] - run[1])[:2])


@given(posed_bodies(512))
@settings(deadline=None)
def test_a_body_matches_itself(keypoints):
    assert score_pck(keypoints, keypoints) == 1
    assert score_oks(keypoints, keypoints) == pytest.approx(1)


@given(posed_bodies(512), st.floats(0.3, 3))
@settings(deadline=None)
def test_scores_do_not_depend_on_the_scale(keypoints, factor):
    other = keypoints + np.array([9, -4, 0])
    for score in (score_pck, score_oks):
        assert score(other * (factor, factor, 1), keypoints * (factor, factor, 1)) == pytest.approx(
            score(other, keypoints), abs=1 / 17
        )


def test_pck_counts_what_lies_within_a_tenth_of_the_torso():
    truth = find_pose("t_pose").keypoints
    torso = np.hypot(*(truth[[8, 11], :2].mean(axis=0) - truth[1, :2]))
    moved = truth.copy()
    moved[4, 0] -= 0.09 * torso
    assert score_pck(moved, truth) == 1
    moved[4, 0] -= 0.02 * torso
    assert score_pck(moved, truth) == pytest.approx(17 / 18)


def test_a_point_that_is_hidden_in_the_prediction_is_wrong_and_in_the_truth_does_not_count():
    stand = find_pose("t_pose").keypoints
    without_wrist = stand.copy()
    without_wrist[LEFT_WRIST] = 0
    assert score_pck(without_wrist, stand) == pytest.approx(17 / 18)
    assert score_oks(without_wrist, stand) == pytest.approx(17 / 18)
    assert score_pck(stand, without_wrist) == 1
    assert score_oks(stand, without_wrist) == pytest.approx(1)


def test_oks_follows_its_formula():
    truth = find_pose("t_pose").keypoints * (512, 512, 1)
    moved = truth.copy()
    moved[LEFT_WRIST, 0] += 20
    expected = (17 + np.exp(-(20**2) / (2 * 40_000 * (2 * 0.062) ** 2))) / 18
    assert score_oks(moved, truth, area=40_000) == pytest.approx(expected)


def test_another_pose_scores_low():
    stand, kick = find_pose("stand").keypoints, find_pose("star_jump").keypoints
    assert score_pck(kick, stand) < 0.7
    assert score_oks(kick, stand) < 0.8


def test_an_empty_truth_cannot_be_scored():
    with pytest.raises(ValueError):
        score_pck(find_pose("stand").keypoints, np.zeros((18, 3)))


def test_every_named_pose_has_a_torso_and_lies_within_the_picture():
    for pose in list_poses():
        assert visible_keypoints(pose.keypoints)[[1, 8, 11]].all(), pose.name
        assert (pose.keypoints[:, :2] >= 0).all(), pose.name
        assert (pose.keypoints[:, :2] <= 1).all(), pose.name


def test_a_face_is_a_square_around_the_head_with_its_margin():
    body = scale_to_canvas(find_pose("t_pose").keypoints, 1000, 1000)
    x, y, radius = find_head(body)
    reach = 1.25 * radius
    expected = (x - reach, y - reach, x + reach, y + reach)
    assert np.allclose(find_face(body, 1000, 1000, margin=0.25), expected, atol=0.51)


def test_a_face_ends_where_its_picture_does():
    body = scale_to_canvas(find_pose("t_pose").keypoints, 1000, 1000)
    left, top, right, bottom = find_face(body, 1000, 1000)
    shift = np.array([(left + right) / 2, (top + bottom) / 2, 0])
    assert find_face(body - shift, 1000, 1000) == (0, 0, (right - left) // 2, (bottom - top) // 2)
    assert find_face(body + np.array([2000, 0, 0]), 1000, 1000) is None


def test_who_is_seen_from_behind_shows_no_face():
    behind = scale_to_canvas(find_pose("back_view").keypoints, 1000, 1000)
    assert find_head(behind) is not None
    assert find_face(behind, 1000, 1000) is None
    assert find_face(np.zeros((18, 3)), 1000, 1000) is None
