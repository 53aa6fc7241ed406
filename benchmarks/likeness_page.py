"""The page of a comparison: one HTML file with its tables and its pictures.

Which pictures it shows is the scene set's choice, not anybody's: the first characters, in every scene,
with every seed.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy
from comparison import MEASURES, Scores
from PIL import Image
from portfolios import Portfolio
from scene_set import Scene, SceneSet
from training.toon.figures import Figure

from understudy.pose.library import draw_pose_thumbnail, find_pose

REFERENCE_SIDE = 224
THUMBNAIL_SIDE = 144
FEW_CHARACTERS = 10
"""With fewer, intervals over characters mean little, which the page says."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1e; background: #fff; margin: 2rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
p, ul { max-width: 60rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e3e3e8; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
small { color: #6e6e73; display: block; font-size: .8em; }
.sheet { display: grid; gap: 4px; width: max-content; margin: .5rem 0 1rem; font-size: 12px; }
.sheet > div { text-align: center; } .sheet img { display: block; border: 1px solid #e3e3e8; }
.sheet .row { text-align: left; align-self: center; width: 9rem; font-weight: 600; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Page:
    """All that a page tells. `rows` are portfolios with what was measured of them, in order;
    `facts` and `remarks` are sentences; the first `shown` characters have their pictures on it."""

    scene_set: SceneSet
    rows: Sequence[tuple[Portfolio, Scores]]
    figures: Mapping[str, Mapping[str, Figure | None]]
    differences: Mapping[str, Mapping[str, Figure | None]]
    facts: Sequence[str]
    remarks: Sequence[str]
    shown: int


def write_page(page: Page) -> str:
    """The page as HTML, its pictures inside."""
    told = [name for name in MEASURES if any(name in figures for figures in page.figures.values())]
    parts = [
        "<h1>Likeness</h1>",
        _write_list(page.facts),
        "<h2>Figures</h2>",
        "<p>Means over pictures, with the 95 % interval of a bootstrap that draws characters. Copy-paste is "
        "the best that likeness can be, and no answer; the true drawing is what a right answer gets.</p>",
        _write_figures(page.figures, told, signed=False),
        _write_list(f"{MEASURES[name].title}: {MEASURES[name].meaning}." for name in told),
        "<h2>Differences</h2>",
        "<p>First less second, of the same characters, scenes and seeds. An interval without 0 is a "
        "difference.</p>",
        _write_figures(page.differences, told, signed=True),
        "<h2>Likeness, scene by scene</h2>",
        _write_scenes(page),
    ]
    if page.remarks:
        parts += ["<h2>What did not act, and what failed</h2>", _write_list(page.remarks)]
    below = "its likeness to the reference"
    if "pck_0.1" in told:
        below += ", and where a pose is asked for PCK@0.1, then PCK@0.1 placed"
    parts += [
        "<h2>Pictures</h2>",
        f"<p>The first {page.shown} characters, with every seed. Below a picture: {below}.</p>",
        *(_write_sheet(page, number) for number in range(page.shown)),
    ]
    head = f'<meta charset="utf-8"><title>Likeness</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _write_list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _write_figures(
    rows: Mapping[str, Mapping[str, Figure | None]], told: Sequence[str], *, signed: bool
) -> str:
    heads = ["", *(MEASURES[name].title for name in told)]
    lines = [
        [html.escape(label), *(_tell(figures.get(name), MEASURES[name].digits, signed) for name in told)]
        for label, figures in rows.items()
    ]
    return _write_table(map(html.escape, heads), lines)


def _write_scenes(page: Page) -> str:
    """The mean likeness of each portfolio in each scene."""
    heads = ["", *(html.escape(portfolio.label) for portfolio, _ in page.rows)]
    lines = []
    for column, scene in enumerate(page.scene_set.scenes):
        values = [scores.cells.get("likeness") for _, scores in page.rows]
        lines.append([html.escape(scene.name), *(_tell_mean(cells, column) for cells in values)])
    return _write_table(heads, lines)


def _tell_mean(cells: numpy.ndarray | None, column: int) -> str:
    known = [] if cells is None else cells[:, column][numpy.isfinite(cells[:, column])]
    return f"{numpy.mean(known):.3f}" if len(known) else "–"


def _write_table(heads: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _tell(figure: Figure | None, digits: int, signed: bool) -> str:
    if figure is None:
        return "–"
    sign = "+" if signed else ""
    value, low, high = (f"{number:{sign}.{digits}f}" for number in (figure.value, figure.low, figure.high))
    return f"{value}<small>{low} to {high}</small>"


def _write_sheet(page: Page, number: int) -> str:
    """A character: its reference, and what everybody made of it; poses and prompts apart."""
    character = page.scene_set.characters[number]
    caption = f"<p>{html.escape(character.caption)}</p>" if character.caption else ""
    scenes = list(enumerate(page.scene_set.scenes))
    blocks = [[one for one in scenes if bool(one[1].pose) is posed] for posed in (True, False)]
    return "".join(
        [
            f"<h3>{html.escape(character.name)}</h3>{caption}",
            _show(character.reference, REFERENCE_SIDE, f"{character.name}, reference"),
            *(_write_block(page, number, block) for block in blocks if block),
        ]
    )


def _write_block(page: Page, number: int, scenes: Sequence[tuple[int, Scene]]) -> str:
    """A row for what was asked for, and one for each portfolio that drew, and seed."""
    cells = ['<div class="row">asked for</div>', *(_write_scene(scene) for _, scene in scenes)]
    for portfolio, scores in page.rows:
        for seed in range(page.scene_set.seeds):
            places = [(number, column, seed) for column, _ in scenes]
            if portfolio.shown and any(place in portfolio.pictures for place in places):
                label = portfolio.label if page.scene_set.seeds == 1 else f"{portfolio.label}, seed {seed}"
                cells.append(f'<div class="row">{html.escape(label)}</div>')
                cells += [_write_picture(portfolio, scores, place) for place in places]
    columns = f"9rem repeat({len(scenes)}, {THUMBNAIL_SIDE + 2}px)"
    sheet = f'<div class="sheet" style="grid-template-columns: {columns}">{"".join(cells)}</div>'
    return f'<div class="wide">{sheet}</div>'


def _write_scene(scene: Scene) -> str:
    skeleton = ""
    if scene.pose is not None:
        skeleton = _show(
            draw_pose_thumbnail(find_pose(scene.pose), THUMBNAIL_SIDE), THUMBNAIL_SIDE, scene.pose
        )
    return f"<div>{skeleton}{html.escape(scene.name)}<small>{html.escape(scene.words)}</small></div>"


def _write_picture(portfolio: Portfolio, scores: Scores, place: tuple[int, int, int]) -> str:
    picture = portfolio.open(place)
    if picture is None:
        return "<div>none</div>"
    told = [
        f"{scores.cells[name][place]:.2f}"
        for name in ("likeness", "pck_0.1", "pck_0.1_placed")
        if name in scores.cells and numpy.isfinite(scores.cells[name][place])
    ]
    return f"<div>{_show(picture, THUMBNAIL_SIDE, portfolio.label)}{' · '.join(told)}</div>"


def _show(picture: Image.Image, side: int, words: str) -> str:
    """A picture inside the page, no larger than `side` each way."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    with io.BytesIO() as file:
        small.save(file, "WEBP", quality=82)
        data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" width="{small.width}" src="data:image/webp;base64,{data}">'
