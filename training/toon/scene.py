"""Where a character stands: backgrounds in muted colours, the ground's shadow, a seat."""

from __future__ import annotations

import random
from dataclasses import dataclass

import skia

from .ink import Colour, Ink, darken, make_blob, make_oval, make_polygon, mix_colours

SCENES = (
    "plain", "floor", "gradient", "room", "park", "street", "beach", "hills", "night", "snow",
)  # fmt: skip
_WEIGHTS = (5, 4, 3, 1, 1, 1, 1, 1, 0.7, 0.7)

TINTS: tuple[Colour, ...] = (
    (255, 255, 255), (238, 241, 245), (219, 233, 244), (250, 238, 217), (224, 239, 221), (243, 227, 233),
    (231, 227, 244), (212, 217, 224), (248, 244, 229), (203, 225, 229), (244, 222, 206), (186, 196, 208),
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A background: one of `SCENES`, its tint, and numbers from 0 to 1 that move its things about."""

    kind: str
    tint: Colour = (255, 255, 255)
    quirks: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)


def make_scene(rng: random.Random, kind: str | None = None) -> Scene:
    """A scene at random."""
    chosen = rng.choices(SCENES, _WEIGHTS)[0] if kind is None else kind
    red, green, blue = rng.choice(TINTS)
    tint = tuple(float(max(0, min(255, round(value + rng.uniform(-5, 5))))) for value in (red, green, blue))
    return Scene(chosen, tint, tuple(round(rng.random(), 4) for _ in range(4)))


def draw_scene(ink: Ink, scene: Scene, width: float, height: float, ground: float) -> None:
    """The background. `ground` is where the figure's feet are, in pixels from the top."""
    _Backdrop(ink, scene, width, height, ground).draw()


def draw_shadow(ink: Ink, spans: list[tuple[float, float]], y: float, thickness: float, scene: Scene) -> None:
    """Soft shadows on the ground below what stands there, from left to right each."""
    opacity = 0.3 if scene.kind == "night" else 0.16
    for left, right in spans:
        middle, half = (left + right) / 2, (right - left) / 2
        for size, share in ((1.0, 0.55), (0.72, 0.6)):
            ink.fill(make_oval(middle, y, half * size, thickness * size), (30, 24, 60), opacity * share)


def draw_seat(ink: Ink, scene: Scene, left: float, right: float, top: float, ground: float) -> None:
    """A block to sit on."""
    colour = darken(_ground_colour(scene), 0.74)
    corner = (right - left) * 0.08
    box = skia.Path()
    box.addRoundRect(skia.Rect(left, top, right, ground), corner, corner)
    ink.fill(box, colour)
    cushion = skia.Path()
    lip = (right - left) * 0.04
    cushion.addRoundRect(skia.Rect(left - lip, top, right + lip, top + (ground - top) * 0.2), corner, corner)
    ink.fill(cushion, darken(colour, 0.86))


def _ground_colour(scene: Scene) -> Colour:
    return _GROUNDS.get(scene.kind, darken(scene.tint, 0.92))


_GROUNDS: dict[str, Colour] = {
    "room": (214, 190, 164),
    "park": (168, 200, 148),
    "street": (186, 188, 194),
    "beach": (240, 222, 184),
    "hills": (176, 204, 156),
    "night": (66, 78, 104),
    "snow": (240, 244, 250),
}
_SKIES: dict[str, tuple[Colour, Colour]] = {
    "park": ((190, 220, 236), (228, 240, 240)),
    "street": ((206, 220, 232), (238, 236, 228)),
    "beach": ((176, 214, 236), (232, 242, 240)),
    "hills": ((196, 216, 238), (246, 234, 222)),
    "night": ((30, 40, 76), (78, 88, 128)),
    "snow": ((206, 218, 232), (234, 238, 244)),
}


class _Backdrop:
    def __init__(self, ink: Ink, scene: Scene, width: float, height: float, ground: float) -> None:
        self.ink, self.scene = ink, scene
        self.width, self.height = width, height
        self.size = min(width, height)
        self.horizon = max(0.45 * height, min(ground - 0.075 * self.size, 0.96 * height))

    def draw(self) -> None:
        ink, scene = self.ink, self.scene
        if ink.parts:
            return
        canvas = ink.canvas
        canvas.clear(_to_skia(scene.tint))
        ground = _ground_colour(scene)
        match scene.kind:
            case "gradient":
                self._fill_gradient(scene.tint, darken(scene.tint, 0.84), 0, self.height)
            case "floor":
                self._fill_ground(ground)
            case "room":
                self._draw_room(ground)
            case "plain":
                pass
            case kind:
                self._fill_gradient(*_SKIES[kind], 0, self.horizon)
                getattr(self, f"_draw_{kind}")(ground)

    def _fill_gradient(self, top: Colour, bottom: Colour, start: float, end: float) -> None:
        paint = skia.Paint(
            Shader=skia.GradientShader.MakeLinear(
                points=[(0, start), (0, end)], colors=[_to_skia(top), _to_skia(bottom)]
            )
        )
        self.ink.canvas.drawRect(skia.Rect(0, start, self.width, end), paint)

    def _fill_ground(self, colour: Colour) -> None:
        self._fill_rect(0, self.horizon, self.width, self.height, colour)

    def _fill_rect(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        path = skia.Path()
        path.addRect(skia.Rect(left, top, right, bottom))
        self.ink.fill(path, colour)

    def _draw_room(self, ground: Colour) -> None:
        size, horizon, quirks = self.size, self.horizon, self.scene.quirks
        self._fill_rect(0, 0, self.width, horizon, mix_colours(self.scene.tint, (240, 228, 212), 0.45))
        self._fill_ground(ground)
        self._fill_rect(0, horizon - 0.022 * size, self.width, horizon, (250, 246, 240))
        wall = darken(self.scene.tint, 0.9)
        x = (
            self.width * (0.06 + 0.1 * quirks[0])
            if quirks[1] < 0.5
            else self.width * (0.6 + 0.08 * quirks[0])
        )
        top, wide, high = horizon - 0.78 * size, 0.28 * size, 0.34 * size
        self._fill_rect(x, top, x + wide, top + high, (252, 250, 246))
        edge = 0.018 * size
        middle = x + wide / 2
        for left, right in ((x + edge, middle - edge / 2), (middle + edge / 2, x + wide - edge)):
            self._fill_rect(left, top + edge, right, top + high - edge, (204, 226, 238))
        other = self.width * 0.68 if quirks[1] < 0.5 else self.width * 0.08
        shelf = horizon - 0.5 * size
        self._fill_rect(other, shelf, other + 0.25 * size, shelf + 0.018 * size, darken(ground, 0.85))
        for index, tint in enumerate(((196, 160, 150), (160, 178, 190), (206, 190, 150), (170, 186, 160))):
            left = other + (0.02 + 0.032 * index) * size
            self._fill_rect(
                left, shelf - (0.08 + 0.02 * (index % 2)) * size, left + 0.027 * size, shelf, tint
            )
        pot = other + 0.2 * size
        self.ink.fill(make_oval(pot, shelf - 0.075 * size, 0.035 * size, 0.045 * size), (164, 190, 150))
        self._fill_rect(pot - 0.02 * size, shelf - 0.04 * size, pot + 0.02 * size, shelf, wall)

    def _draw_park(self, ground: Colour) -> None:
        self._fill_ground(ground)
        size, horizon, quirks = self.size, self.horizon, self.scene.quirks
        for share, tall in ((0.1 + 0.1 * quirks[0], 0.42), (0.86 + 0.08 * quirks[1], 0.5), (0.62, 0.22)):
            x = self.width * share
            self._fill_rect(
                x - 0.014 * size, horizon - 0.5 * tall * size, x + 0.014 * size, horizon, (168, 146, 126)
            )
            crown = make_blob(
                [
                    (x - 0.42 * tall * size, horizon - 0.42 * tall * size),
                    (x - 0.4 * tall * size, horizon - 0.95 * tall * size),
                    (x, horizon - 1.3 * tall * size),
                    (x + 0.4 * tall * size, horizon - 0.95 * tall * size),
                    (x + 0.42 * tall * size, horizon - 0.42 * tall * size),
                    (x, horizon - 0.3 * tall * size),
                ]
            )
            self.ink.fill(crown, (158, 192, 150))
        self._draw_cloud(0.25 + 0.5 * quirks[2], 0.14)

    def _draw_street(self, ground: Colour) -> None:
        size, horizon, quirks = self.size, self.horizon, self.scene.quirks
        x, index = -0.1 * size * quirks[0], 0
        while x < self.width:
            wide = (0.2 + 0.1 * ((quirks[1] * 7.3 + index * 0.61) % 1)) * size
            high = (0.4 + 0.35 * ((quirks[2] * 5.1 + index * 0.37) % 1)) * size
            wall = ((206, 196, 188), (190, 198, 206), (214, 204, 190), (198, 190, 200))[index % 4]
            self._fill_rect(x, horizon - high, x + wide, horizon, wall)
            windows = skia.Path()
            y = horizon - high + 0.05 * size
            while y < horizon - 0.12 * size:
                for share in (0.18, 0.58):
                    windows.addRect(
                        skia.Rect(x + share * wide, y, x + (share + 0.24) * wide, y + 0.06 * size)
                    )
                y += 0.11 * size
            self.ink.fill(windows, (226, 232, 236))
            x += wide
            index += 1
        self._fill_ground(ground)
        self._fill_rect(0, horizon, self.width, horizon + 0.02 * size, (206, 206, 208))

    def _draw_beach(self, ground: Colour) -> None:
        size, horizon = self.size, self.horizon
        self._fill_rect(0, horizon - 0.14 * size, self.width, horizon, (142, 194, 212))
        self._fill_ground(ground)
        self._fill_rect(0, horizon - 0.012 * size, self.width, horizon + 0.006 * size, (238, 246, 246))
        sun = self.width * (0.15 if self.scene.quirks[0] < 0.5 else 0.85)
        self.ink.fill(make_oval(sun, 0.16 * self.height, 0.07 * size, 0.07 * size), (252, 238, 190))
        self._draw_cloud(0.3 + 0.4 * self.scene.quirks[1], 0.24)

    def _draw_hills(self, ground: Colour) -> None:
        horizon, size, quirks = self.horizon, self.size, self.scene.quirks
        for rise, tint in ((0.3, (186, 202, 206)), (0.17, (184, 208, 180))):
            peak = self.width * (0.2 + 0.6 * quirks[1 if rise > 0.2 else 2])
            path = skia.Path()
            path.moveTo(0, horizon)
            path.lineTo(0, horizon - 0.4 * rise * size)
            path.quadTo(peak * 0.5, horizon - 1.2 * rise * size, peak, horizon - 0.8 * rise * size)
            path.quadTo(
                (peak + self.width) / 2, horizon - 0.1 * rise * size, self.width, horizon - 0.9 * rise * size
            )
            path.lineTo(self.width, horizon)
            path.close()
            self.ink.fill(path, tint)
        self._fill_ground(ground)
        self._draw_cloud(0.2 + 0.6 * quirks[0], 0.13)

    def _draw_night(self, ground: Colour) -> None:
        size, quirks = self.size, self.scene.quirks
        stars = skia.Path()
        for index in range(16):
            x = (quirks[0] + index * 0.618) % 1 * self.width
            y = (quirks[1] + index * 0.381) % 1 * 0.9 * self.horizon
            stars.addCircle(x, y, (0.003 + 0.003 * (index % 3)) * size)
        self.ink.fill(stars, (214, 218, 236))
        moon = self.width * (0.14 if quirks[2] < 0.5 else 0.86)
        self.ink.fill(make_oval(moon, 0.15 * self.height, 0.065 * size, 0.065 * size), (238, 232, 204))
        self._fill_ground(ground)

    def _draw_snow(self, ground: Colour) -> None:
        size, horizon, quirks = self.size, self.horizon, self.scene.quirks
        for share, tall in ((0.1 + 0.08 * quirks[0], 0.5), (0.27, 0.32), (0.84 + 0.1 * quirks[1], 0.56)):
            x = self.width * share
            for low, wide in ((0.0, 0.2), (0.3, 0.16), (0.58, 0.11)):
                tree = [
                    (x - wide * tall * 2 * size, horizon - low * tall * size),
                    (x + wide * tall * 2 * size, horizon - low * tall * size),
                    (x, horizon - (low + 0.45) * tall * size),
                ]
                self.ink.fill(make_polygon(tree), (170, 192, 190))
        self._fill_ground(ground)
        flakes = skia.Path()
        for index in range(24):
            x = (quirks[2] + index * 0.618) % 1 * self.width
            y = (quirks[3] + index * 0.367) % 1 * self.height
            flakes.addCircle(x, y, 0.006 * size)
        self.ink.fill(flakes, (252, 253, 255))

    def _draw_cloud(self, share: float, height: float) -> None:
        x, y, size = self.width * share, self.height * height, self.size
        path = skia.Path()
        for dx, radius in ((-0.09, 0.035), (-0.03, 0.055), (0.04, 0.045), (0.1, 0.03)):
            path.addCircle(x + dx * size, y - 0.4 * radius * size, radius * size)
        path.addRect(skia.Rect(x - 0.09 * size, y - 0.015 * size, x + 0.1 * size, y + 0.016 * size))
        self.ink.fill(path, (248, 250, 252))


def _to_skia(colour: Colour) -> int:
    red, green, blue = (round(value) for value in colour)
    return skia.Color(red, green, blue)
