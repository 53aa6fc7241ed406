"""How well engines keep a character and follow a pose: `python benchmarks/likeness.py --engine sdxl`.

Draws the scene set (30 characters of our own or yours; 12 named poses, 7 prompts) with each engine, in
this process or through a service, and beside it without a reference; pastes the reference as an answer;
and measures all alike. Writes `likeness.html`, one page with tables and pictures, and `likeness.json`.
What is drawn is kept: an interrupted run goes on, another engine's is added to it.

    python benchmarks/likeness.py --engine toon --engine sdxl
    python benchmarks/likeness.py --engine sdxl --engine "realvis=sdxl sdxl_model=SG161222/RealVisXL_V5.0"
    python benchmarks/likeness.py --service http://127.0.0.1:8000 --model understudy-qwen-edit
    python benchmarks/likeness.py --engine toon --identity-model embedded --characters 2 --poses 2 --prompts 2

docs/engines/likeness.md tells what is measured, and what others have published.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# They are read when the libraries are loaded; engines draw several times slower with threads that spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_VERBOSITY", "error")

from artists import EngineArtist, ServiceArtist, read_engine
from comparison import measure_detector, measure_portfolio, read_references, tell_differences, tell_figures
from instruments import DETECTORS, EMBEDDED, Instruments, load_instruments
from likeness_page import FEW_CHARACTERS, Page, write_page
from portfolios import (
    Gallery,
    Portfolio,
    draw_portfolio,
    draw_truths,
    drop_references,
    paste_references,
    write_orders,
)
from scene_set import CHARACTERS, POSE_SCENES, PROMPT_SCENES, SceneSet, draw_characters, read_characters

from understudy import Client, UnderstudyError
from understudy.engines import EngineError

DEFAULT_IDENTITY = "facebook/dinov2-base"
TINY = {"characters": "2", "poses": 2, "prompts": 2, "side": 256, "steps": 2, "identity_model": EMBEDDED}
"""To see that everything runs: its figures mean nothing."""


@dataclass(frozen=True)
class Asked:
    """How pictures are asked for, of every engine alike."""

    steps: int = 10
    guidance_scale: float = 3.0
    captions: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare as the command line says."""
    options = _read_options(arguments)
    artists: list[EngineArtist | ServiceArtist] = []
    try:
        # Before anything is drawn for hours, all that it needs is looked at.
        artists += [read_engine(words, options.device) for words in options.engine]
        if options.service:
            artists += [ServiceArtist(Client(base_url=options.service), slug) for slug in options.model]
        labels = [artist.label for artist in artists]
        if len(set(labels)) < len(labels):
            raise ValueError("two engines have the same label; write label=engine to tell them apart")
        scene_set = _make_scene_set(options)
        instruments = load_instruments(
            identity=options.identity_model,
            prompt=options.prompt_model,
            detector=options.detector,
            dreamsim=options.dreamsim,
            device=_choose_device(options.device),
        )
        asked = Asked(options.steps, options.guidance_scale, options.captions)
        report = compare(artists, scene_set, asked, instruments, options.folder, options.sheets)
    except (EngineError, UnderstudyError, ValueError) as error:
        sys.exit(f"likeness: {getattr(error, 'message', error)}")
    page = options.folder / "likeness.html"
    print(f"{report['drawn']} pictures drawn, {report['failures']} failed; see {page}")


def compare(
    artists: Sequence[EngineArtist | ServiceArtist],
    scene_set: SceneSet,
    asked: Asked,
    instruments: Instruments,
    folder: Path,
    sheets: int = 6,
) -> dict[str, Any]:
    """Draw what is missing, measure everything, and write page and figures into `folder`.

    Raises:
        EngineError, UnderstudyError: an engine or a service cannot draw; what it drew before is kept.
    """
    gallery = Gallery(folder / "pictures")
    drawn: list[tuple[Portfolio, Portfolio]] = []
    for artist in artists:
        try:
            drawn.append(_draw_both(artist, scene_set, asked, gallery))
        finally:
            artist.close()
    truths, skeletons = draw_truths(scene_set)
    portfolios = [*itertools.chain.from_iterable(drawn), paste_references(scene_set), truths]
    references = read_references(scene_set, instruments)
    rows = [
        (one, measure_portfolio(one, scene_set, instruments, references))
        for one in portfolios
        if one.pictures
    ]
    scores = {portfolio.label: one for portfolio, one in rows}
    pairs = [(own.label, without.label) for own, without in drawn]
    pairs += itertools.combinations([own.label for own, _ in drawn], 2)
    detector = measure_detector(truths, skeletons, instruments)
    page = Page(
        scene_set=scene_set,
        rows=rows,
        figures={label: tell_figures(one, scene_set) for label, one in scores.items()},
        differences={
            f"{first} less {second}": tell_differences(scores[first], scores[second], scene_set)
            for first, second in pairs
            if first in scores and second in scores
        },
        facts=_tell_facts(scene_set, asked, instruments, portfolios, detector),
        remarks=_tell_remarks(portfolios),
        shown=min(sheets, len(scene_set.characters)),
    )
    report = {
        "shape": scene_set.shape,
        "asked": asdict(asked),
        "facts": page.facts,
        "remarks": page.remarks,
        "figures": _to_json(page.figures),
        "differences": _to_json(page.differences),
        "detector_on_true_drawings": _to_json({"detector": detector})["detector"],
        "drawn": sum(one.drawn for one in portfolios),
        "failures": sum(one.failures for one in portfolios),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "likeness.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "likeness.html").write_text(write_page(page), encoding="utf-8")
    return report


def _draw_both(
    artist: EngineArtist | ServiceArtist, scene_set: SceneSet, asked: Asked, gallery: Gallery
) -> tuple[Portfolio, Portfolio]:
    """What an artist draws, and what it draws of the same prompts and poses without a reference."""
    orders = write_orders(
        scene_set, steps=asked.steps, guidance_scale=asked.guidance_scale, captions=asked.captions
    )
    own = draw_portfolio(artist, orders, gallery, label=artist.label, note=f"drawn with {artist.weights}")
    how = "a plain grey picture as its reference"
    if artist.can_ignore_references:
        how += ", and ip_scale 0"
    without = draw_portfolio(
        artist,
        drop_references(orders, artist),
        gallery,
        label=f"{artist.label}, no reference",
        note=f"the same prompts and poses with {how}",
    )
    return own, without


def _tell_facts(
    scene_set: SceneSet,
    asked: Asked,
    instruments: Instruments,
    portfolios: Sequence[Portfolio],
    detector: dict[str, Any],
) -> list[str]:
    characters, scenes, seeds = scene_set.shape
    posed = sum(scene.pose is not None for scene in scene_set.scenes)
    told = "begin with the character's caption" if asked.captions else "say nothing of the character"
    facts = [
        f"{characters} characters in {posed} named poses and {scenes - posed} prompts, "
        f"{seeds} seed{'s' if seeds > 1 else ''} each.",
        f"{scene_set.side} x {scene_set.side} pixels, {asked.steps} steps, guidance "
        f"{asked.guidance_scale:g}; prompts {told}.",
        f"Identity is measured by {instruments.identity.name}.",
        f"Poses are found by {instruments.detector_name}."
        if instruments.detector
        else "Poses are not measured, and figures are not cut out: there is no detector.",
    ]
    if characters < FEW_CHARACTERS:
        facts.append(
            f"Intervals over {characters} characters mean little: this is a look, not a measurement."
        )
    if detector:
        found = ", ".join(
            f"{name.replace('_', '@').upper()} {one.value:.3f}" for name, one in detector.items()
        )
        facts.append(f"Its own error, on true drawings against where their keypoints are: {found}.")
    if instruments.prompt:
        facts.append(f"Adherence to prompts is measured by {instruments.prompt.name}.")
    if instruments.dreamsim:
        facts.append(f"Distances are measured by {instruments.dreamsim.name}.")
    for one in portfolios:
        seconds = f"; {statistics.median(one.seconds):.2f} s a picture, the median" if one.seconds else ""
        facts.append(f"{one.label}: {one.note}{seconds}.")
    return facts


def _tell_remarks(portfolios: Sequence[Portfolio]) -> list[str]:
    remarks = [f"{one.label}: {warning}" for one in portfolios for warning in one.warnings]
    remarks += [f"{one.label}: {one.failures} pictures failed." for one in portfolios if one.failures]
    return remarks


def _to_json(rows: Any) -> dict[str, Any]:
    return {
        label: {name: None if one is None else asdict(one) for name, one in figures.items()}
        for label, figures in rows.items()
    }


def _make_scene_set(options: argparse.Namespace) -> SceneSet:
    scenes = [*POSE_SCENES[: options.poses], *PROMPT_SCENES[: options.prompts]]
    if not scenes:
        raise ValueError("there is nothing to draw without --poses and --prompts")
    if options.characters.isdecimal():
        characters = draw_characters(int(options.characters), options.side)
    else:
        characters = read_characters(Path(options.characters))
    return SceneSet(characters, scenes, options.seeds, options.side)


def _choose_device(name: str) -> str:
    from understudy.engines.device import choose_device

    return choose_device(name)


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="an engine in this process, or label=engine setting=value where settings differ; repeat it",
    )
    parser.add_argument("--service", metavar="URL", help="a running service; its key is UNDERSTUDY_API_KEY")
    parser.add_argument(
        "--model", action="append", default=[], metavar="SLUG", help="a model of that service"
    )
    parser.add_argument(
        "--characters",
        default=str(CHARACTERS),
        metavar="COUNT|FOLDER",
        help=f"how many of our {CHARACTERS}, or a folder of pictures; anna.txt is the caption of anna.png",
    )
    parser.add_argument("--poses", type=int, default=len(POSE_SCENES), help="how many of our named poses")
    parser.add_argument("--prompts", type=int, default=len(PROMPT_SCENES), help="how many of our prompts")
    parser.add_argument("--seeds", type=int, default=1, help="pictures of each scene")
    parser.add_argument("--side", type=int, default=1024, help="of the pictures, in pixels")
    parser.add_argument("--steps", type=int, default=Asked.steps)
    parser.add_argument("--guidance-scale", type=float, default=Asked.guidance_scale)
    parser.add_argument("--captions", action="store_true", help="begin prompts with the character's caption")
    parser.add_argument(
        "--identity-model",
        default=DEFAULT_IDENTITY,
        metavar="PLACE",
        help=f"a DINOv2 or DINOv3, by folder or hub id (default {DEFAULT_IDENTITY}); {EMBEDDED}: the "
        "embedded model's own encoder, which flatters the embedded model",
    )
    parser.add_argument("--prompt-model", metavar="PLACE", help="a CLIP, to measure adherence to prompts")
    parser.add_argument("--detector", choices=DETECTORS, default="auto", help="what finds poses in pictures")
    parser.add_argument("--dreamsim", action="store_true", help="measure with the package dreamsim too")
    parser.add_argument("--sheets", type=int, default=6, help="characters whose pictures the page shows")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--folder", type=Path, default=Path("build/likeness"), help="for pictures and page")
    parser.add_argument("--tiny", action="store_true", help="a handful of small pictures: see that it runs")
    if "--tiny" in (sys.argv[1:] if arguments is None else arguments):
        parser.set_defaults(**TINY)
    options = parser.parse_args(arguments)
    if not options.engine and not options.service:
        parser.error("give an --engine or a --service")
    if bool(options.service) != bool(options.model):
        parser.error("--service and --model go together")
    return options


if __name__ == "__main__":
    main()
