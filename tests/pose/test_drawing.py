import numpy as np
import pytest
from bodies import compress, posed_bodies, styles, with_hands_and_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from understudy.pose import (
    StickStyle,
    WholeBody,
    draw_skeleton,
    draw_whole_body,
    find_pose,
    read_skeleton,
    scale_to_canvas,
    visible_keypoints,
)
from understudy.pose.drawing import HAND_LIMB_COLOURS, JOINT_COLOURS, LIMB_COLOURS, draw_ellipse, draw_line
from understudy.pose.whole_body import HAND_LIMBS

T_POSE = find_pose("t_pose").keypoints


def read_error(keypoints, picture):
    """Share of visible keypoints that were read, wrongly read ones, and the largest distance in pixels."""
    found = read_skeleton(picture)
    assert found is not None
    truth, seen = visible_keypoints(keypoints), visible_keypoints(found)
    distances = np.hypot(*(found[:, :2] - keypoints[:, :2]).T)[truth & seen]
    return (truth & seen).sum() / truth.sum(), int((seen & ~truth).sum()), distances.max()


@pytest.mark.parametrize(
    ("style", "width", "height", "pixels"),
    [
        (StickStyle.CONTROLNET, 512, 512, 4),
        (StickStyle.CONTROLNET, 1024, 512, 4),
        (StickStyle.TOON, 256, 256, 2),
        (StickStyle.XINSIR, 499, 499, 4),
        (StickStyle.XINSIR, 512, 768, 8),
        (StickStyle.XINSIR, 1024, 1024, 12),
        (StickStyle.XINSIR, 2048, 1024, 16),
    ],
)
def test_each_style_has_its_width(style, width, height, pixels):
    assert style.stick_width(width, height) == pixels


def test_joints_have_full_colour_and_limbs_a_darker_one():
    keypoints = scale_to_canvas(T_POSE, 512, 512)
    pixels = np.asarray(draw_skeleton(keypoints, 512, 512))
    for (x, y, _), colour in zip(keypoints, JOINT_COLOURS, strict=True):
        assert pixels[int(y), int(x)] == pytest.approx(colour, abs=1)
    x, y = (keypoints[9, :2] + keypoints[10, :2]) / 2
    assert pixels[int(y), int(x)] == pytest.approx(LIMB_COLOURS[8], abs=1)
    assert not pixels[:8].any()


def test_a_hidden_joint_takes_its_limbs_with_it():
    keypoints = scale_to_canvas(T_POSE, 512, 512)
    keypoints[3, 2] = 0
    pixels = np.asarray(draw_skeleton(keypoints, 512, 512))
    x, y = keypoints[3, :2]
    assert not pixels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].any()
    assert pixels[int(keypoints[4, 1]), int(keypoints[4, 0])].any()


@given(
    st.tuples(st.floats(8, 56), st.floats(8, 56)),
    st.tuples(st.floats(8, 56), st.floats(8, 56)),
    st.floats(1, 6),
)
@settings(max_examples=30, deadline=None)
def test_coverage_agrees_with_sampling(start, end, half_width):
    start, end = np.array(start), np.array(end)
    half_length = np.hypot(*(end - start)) / 2
    if half_length < half_width:
        return
    canvas = np.zeros((64, 64, 3), dtype=np.float32)
    draw_ellipse(canvas, start, end, half_width, (1, 1, 1))
    fine = (np.arange(64 * 8) + 0.5) / 8
    x, y = fine - (start + end)[0] / 2, fine[:, None] - (start + end)[1] / 2
    dx, dy = (end - start) / (2 * half_length)
    inside = ((x * dx + y * dy) / half_length) ** 2 + ((y * dx - x * dy) / half_width) ** 2 <= 1
    sampled = inside.reshape(64, 8, 64, 8).mean(axis=(1, 3))
    # The tips are narrower than a pixel, where a first-order distance is coarse.
    assert np.abs(canvas[..., 0] - sampled).sum() < 0.15 * sampled.sum() + 3
    assert canvas[..., 0].sum() == pytest.approx(sampled.sum(), rel=0.1, abs=2)


def test_what_lies_outside_the_canvas_is_cut_off():
    keypoints = scale_to_canvas(T_POSE, 512, 512)
    inside = draw_skeleton(keypoints, 512, 512)
    shifted = draw_skeleton(keypoints - np.array([200, 0, 0]), 312, 512, 4.0)
    assert np.array_equal(np.asarray(inside)[:, 200:], np.asarray(shifted))


@given(st.data(), st.sampled_from([256, 384, 512, 768, 1024]), styles)
@settings(max_examples=40, deadline=None)
def test_a_drawn_skeleton_is_read_back(data, size, style):
    keypoints = data.draw(posed_bodies(size))
    read, wrong, distance = read_error(keypoints, draw_skeleton(keypoints, size, size, style))
    # A joint that later joints hide entirely cannot always be told.
    assert read >= 0.8
    assert wrong <= 1
    assert distance <= max(4, style.stick_width(size, size))


@pytest.mark.parametrize(
    "name", ["stand", "t_pose", "wave", "run", "kick", "sit_cross_legged", "crawl", "back_view"]
)
@pytest.mark.parametrize("style", list(StickStyle))
@pytest.mark.parametrize(("file_format", "quality"), [("JPEG", 80), ("WEBP", 75)])
def test_a_compressed_skeleton_is_read_back(name, style, file_format, quality):
    keypoints = scale_to_canvas(find_pose(name).keypoints, 512, 512)
    picture = compress(draw_skeleton(keypoints, 512, 512, style), file_format, quality)
    read, wrong, distance = read_error(keypoints, picture)
    assert read == 1
    assert wrong == 0
    assert distance <= 3


def test_a_small_compressed_skeleton_is_read_back():
    keypoints = scale_to_canvas(T_POSE, 256, 256)
    read, wrong, distance = read_error(keypoints, compress(draw_skeleton(keypoints, 256, 256), "JPEG", 80))
    assert (read, wrong) == (1, 0)
    assert distance <= 3


@pytest.mark.parametrize("size", [(384, 384), (700, 700), (1500, 1500), (640, 480)])
def test_a_resized_skeleton_is_read_back(size):
    keypoints = scale_to_canvas(find_pose("dance").keypoints, 512, 512)
    picture = draw_skeleton(keypoints, 512, 512).resize(size, Image.Resampling.BICUBIC)
    expected = keypoints * (size[0] / 512, size[1] / 512, 1)
    read, wrong, distance = read_error(expected, picture)
    assert (read, wrong) == (1, 0)
    assert distance <= 0.006 * max(size)


def test_missing_joints_are_read_as_missing():
    keypoints = scale_to_canvas(T_POSE, 512, 512)
    keypoints[[0, 4, 9, 10, 14, 15, 16, 17]] = 0
    found = read_skeleton(draw_skeleton(keypoints, 512, 512))
    assert np.array_equal(visible_keypoints(found), visible_keypoints(keypoints))


def test_a_joint_under_another_one_is_found_by_its_limb():
    keypoints = scale_to_canvas(find_pose("pray").keypoints, 512, 512)
    keypoints[4] = keypoints[7]
    read, wrong, distance = read_error(keypoints, draw_skeleton(keypoints, 512, 512))
    assert (read, wrong) == (1, 0)
    assert distance <= 3


def draw_rainbow() -> Image.Image:
    hue, level = np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 256))
    return Image.fromarray(np.dstack([hue, np.full_like(hue, 255), level]).astype(np.uint8), "HSV").convert(
        "RGB"
    )


def draw_logo() -> Image.Image:
    logo = Image.new("RGB", (512, 512))
    pen = ImageDraw.Draw(logo)
    for index, colour in enumerate(JOINT_COLOURS.astype(int)):
        angle = index * np.pi / 9
        x, y = 256 + 150 * np.cos(angle), 256 + 150 * np.sin(angle)
        pen.line((256, 256, x, y), fill=tuple(int(v * 0.6) for v in colour), width=8)
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=tuple(int(v) for v in colour))
    return logo


def draw_dots() -> Image.Image:
    dots = Image.new("RGB", (512, 512))
    pen, random = ImageDraw.Draw(dots), np.random.default_rng(5)
    for colour in JOINT_COLOURS.astype(int):
        x, y = random.uniform(20, 490, 2)
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(int(v) for v in colour))
    return dots


def draw_cartoon() -> Image.Image:
    cartoon = Image.new("RGB", (512, 512), (12, 12, 16))
    pen = ImageDraw.Draw(cartoon)
    pen.ellipse((190, 60, 320, 190), fill=(245, 205, 175))
    pen.rectangle((205, 190, 305, 340), fill=(206, 52, 50))
    pen.rectangle((210, 340, 300, 480), fill=(46, 66, 112))
    return cartoon


def draw_noise() -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC)


def draw_two_bodies() -> Image.Image:
    keypoints = scale_to_canvas(T_POSE, 512, 512)
    pair = Image.new("RGB", (1024, 512))
    pair.paste(draw_skeleton(keypoints, 512, 512), (0, 0))
    pair.paste(draw_skeleton(keypoints, 512, 512), (512, 0))
    return pair


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(Image.new("RGB", (512, 512)), id="black"),
        pytest.param(Image.new("RGB", (512, 512), "white"), id="white"),
        pytest.param(Image.new("RGB", (1, 1), "red"), id="one pixel"),
        pytest.param(draw_rainbow(), id="rainbow"),
        pytest.param(draw_logo(), id="colourful logo on black"),
        pytest.param(draw_dots(), id="coloured dots on black"),
        pytest.param(draw_cartoon(), id="cartoon on black"),
        pytest.param(draw_noise(), id="noise"),
        pytest.param(draw_two_bodies(), id="two bodies"),
        pytest.param(
            draw_skeleton(scale_to_canvas(T_POSE, 512, 512), 512, 512).convert("L"), id="grey skeleton"
        ),
    ],
)
def test_other_pictures_are_no_skeletons(picture):
    assert read_skeleton(picture) is None


@pytest.mark.parametrize("half_width", [0.5, 1.0, 3.0])
def test_a_line_covers_as_much_as_its_area(half_width):
    canvas = np.zeros((128, 128, 3), dtype=np.float32)
    draw_line(canvas, np.array((30.2, 40.7)), np.array((97.5, 80.1)), half_width, (1.0, 1.0, 1.0))
    area = 2 * half_width * np.hypot(67.3, 39.4) + np.pi * half_width**2
    assert canvas[..., 0].sum() == pytest.approx(area, rel=0.05, abs=2)


def test_a_body_without_hands_and_face_is_drawn_as_its_skeleton():
    keypoints = scale_to_canvas(T_POSE, 256, 256)
    hidden = WholeBody(keypoints, np.zeros((2, 21, 3)), np.zeros((68, 3)))
    expected = np.asarray(draw_skeleton(keypoints, 256, 256))
    for body in (WholeBody(keypoints), hidden):
        assert np.array_equal(draw_whole_body(body, 256, 256), expected)


def test_fingers_are_thin_lines_of_the_wheel_between_blue_points_and_a_face_is_white():
    body = with_hands_and_face(scale_to_canvas(T_POSE, 1024, 1024))
    pixels = np.asarray(draw_whole_body(body, 1024, 1024, 2.0)).astype(int)

    def look(point):
        return pixels[int(point[1]), int(point[0])]

    left = body.hands[0]
    for point in left:
        assert look(point).tolist() == [0, 0, 255]
    for (start, end), colour in zip(HAND_LIMBS, HAND_LIMB_COLOURS, strict=True):
        # Near the wrist fingers lie over each other.
        if start:
            seen = look((left[start] + left[end]) / 2)
            # A thin line between pixels is darker, of the same hue.
            assert seen.max() > 128
            assert np.abs(seen / seen.max() - np.divide(colour, 255)).max() < 0.1
    for point in body.face:
        assert look(point).tolist() == [255, 255, 255]


def test_a_whole_body_is_placed_and_scaled_as_one():
    body = with_hands_and_face(scale_to_canvas(T_POSE, 400, 400))
    for moved in (body.scale(2, 1), body.place((400, 400), (800, 600))):
        for before, after in (
            (body.skeleton, moved.skeleton),
            (body.hands, moved.hands),
            (body.face, moved.face),
        ):
            shown = before[..., 2] > 0
            across = (2, 0) if moved.skeleton[1, 1] == body.skeleton[1, 1] else (1.5, 100)
            assert np.allclose(after[shown][:, 0], across[0] * before[shown][:, 0] + across[1])
            assert np.array_equal(after[..., 2], before[..., 2])


@pytest.mark.parametrize("name", ["stand", "t_pose", "run", "arms_up"])
@pytest.mark.parametrize("parts", ["hands and face", "hands", "face"])
def test_a_skeleton_is_read_under_hands_and_face(name, parts):
    keypoints = scale_to_canvas(find_pose(name).keypoints, 512, 512)
    whole = with_hands_and_face(keypoints)
    body = WholeBody(
        keypoints, whole.hands if "hands" in parts else None, whole.face if "face" in parts else None
    )
    read, wrong, distance = read_error(keypoints, draw_whole_body(body, 512, 512))
    assert (read, wrong) == (1, 0)
    assert distance <= 4


@pytest.mark.parametrize(("file_format", "quality"), [("JPEG", 85), ("WEBP", 80)])
def test_a_compressed_whole_body_is_read(file_format, quality):
    keypoints = scale_to_canvas(find_pose("wave").keypoints, 768, 768)
    picture = compress(draw_whole_body(with_hands_and_face(keypoints), 768, 768), file_format, quality)
    read, wrong, distance = read_error(keypoints, picture)
    assert read >= 16 / 18
    assert wrong == 0
    assert distance <= 8


def test_two_whole_bodies_are_not_read():
    body = with_hands_and_face(scale_to_canvas(T_POSE, 512, 512))
    pair = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        pair.paste(draw_whole_body(body, 512, 512), (left, 0))
    assert read_skeleton(pair) is None
