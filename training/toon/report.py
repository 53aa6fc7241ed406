"""The report of an evaluation: tables in Markdown, with the words that say how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .evaluation import BLUR_PIXELS, NOISE_LEVELS
from .examination import MAIN_ATTRIBUTES, OPTIONAL_ATTRIBUTES

_PREFACE = """\
Shares and distances have their 95 % interval and the number of pictures; differences are between pictures
of the same cases, with the interval of a bootstrap that draws cases. "Drawn" has a reference, a pose and a
prompt that tells pose, face and scene and nothing of the character. The column of true drawings is what the
networks that measure reach at best.

The characters are in no training. Nor are the ten families of poses, but they are the ones that errors were
looked at for while the model was trained: validation and test share their families, not their characters or
pictures.
"""
_COLUMNS = {
    "drawn": "drawn",
    "full_prompt": "with the full prompt",
    "prompt_only": "full prompt, no reference",
    "no_reference": "no reference",
    "reference_only": "no prompt",
    "no_pose": "no pose",
    "copy": "reference pasted",
    "truth": "true drawings",
}
_MAIN_ROWS = {
    "identity": ("identity: finds its own among 50, 20 of them different in one attribute only", "≥ 95 %"),
    "attributes": ("hair, skin, top, bottom, shoes: kinds, colours and pattern read right", "≥ 95 %"),
    "optional_present": ("layer, hat, glasses, beard, accessory read right where there is one", ""),
    "optional_absent": ("none of these read where there is none", ""),
    "expression": ("expression", ""),
    "pose": ("pose: PCK@0.1 of the torso's length", "≥ 95 %"),
}
_PROMISES = ("identity", "attributes", "pose")
_DIFFERENCES = {
    "drawn - prompt_only": "reference and no word of the character, less the full prompt without reference",
    "full_prompt - prompt_only": "what the reference adds to the full prompt",
    "full_prompt - drawn": "what the full prompt adds to the reference",
}
_ORDER_ROWS = {
    "orders": ("what the prompt asks for against the reference is drawn", "≥ 80 %"),
    "orders_that_add": ("of these: something added or exchanged", ""),
    "orders_that_take_away": ("of these: something taken away", ""),
    "rest_stays": ("the other attributes stay", ""),
}
_SPOILED = {
    "blurred": f"blurred by {BLUR_PIXELS:g} pixel",
    "noisy": f"with noise of {NOISE_LEVELS:g} levels of 255",
}
_PAIRS = {
    "one": "one picture of one reference",
    "two_references": "two references",
    "best_of_four": "the best of four by the product's own scores",
}
_LIKENESS_ROWS = {
    "own": "of the reference to another true drawing of its character",
    "alike": "to one who differs in one attribute",
    "strangers": "to a stranger",
}
_LIKENESS_SHARES = {
    "above_alike": "it is higher for the own character than for one who differs in one attribute",
    "above_strangers": "it is higher than for a stranger",
    "above_all": "it is higher than for all 49",
}


def write_report(report: dict[str, Any]) -> str:
    """The tables of a report."""
    tables = (
        _tell_conditions(report["conditions"]),
        _tell_differences(report["differences"]),
        _tell_orders(report["orders"]),
        _tell_negatives(report["negatives"]),
        _tell_cleanliness(report["conditions"], report["spoiled"]),
        _tell_variants(report["variants"]),
        _tell_pairs(report["pairs"]),
        _tell_scores(report["scores"], report["likeness_floor"]),
        _tell_attributes(report["conditions"]),
    )
    return "\n".join((_PREFACE, *(_write_table(*table) for table in tables)))


_Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows."""


def _tell_conditions(conditions: dict[str, Any]) -> _Table:
    rows = [
        [words, *(_tell_share(conditions[name][key]) for name in _COLUMNS), aim]
        for key, (words, aim) in _MAIN_ROWS.items()
    ]
    return ["figure", *_COLUMNS.values(), "aim"], rows


def _tell_differences(differences: dict[str, Any]) -> _Table:
    rows = [
        [words, *(_tell_difference(differences[name][key]) for key in _PROMISES)]
        for name, words in _DIFFERENCES.items()
    ]
    return ["difference in points", *_PROMISES], rows


def _tell_orders(orders: dict[str, Any]) -> _Table:
    rows = [
        [words, *(_tell_share(orders[name][key]) for name in ("drawn", "reference_only", "truth")), aim]
        for key, (words, aim) in _ORDER_ROWS.items()
    ]
    return ["prompt against reference", "drawn", "no prompt", "true drawings", "aim"], rows


def _tell_negatives(negatives: dict[str, Any]) -> _Table:
    keys = ("with_negative_prompt", "without", "truth")
    row = ["a thing that the reference has is lacking", *(_tell_share(negatives[key]) for key in keys)]
    heads = ["negative prompt (no prompt)", "named in it", "none", "true drawings that have it"]
    return heads, [row]


def _tell_cleanliness(conditions: dict[str, Any], spoiled: dict[str, Any]) -> _Table:
    drawn, columns = conditions["drawn"], ("drawn", "reconstruction", "truth")
    return ["cleanliness", "drawn", "reconstructed", "true drawings", "aim"], [
        [
            "Frechet distance to true drawings of others",
            *(_tell(conditions[name]["frechet"], 3) for name in columns),
            "",
        ],
        [
            "beyond that of true drawings, reconstructed = 1",
            _tell(drawn["frechet_ratio"], 2),
            "1",
            "0",
            "≤ 1.3",
        ],
        [
            "sharpness of edges, true drawing = 1",
            *(_tell(conditions[name]["sharpness"], 2) for name in columns),
            "",
        ],
        ["the same, reconstructed = 1", _tell(drawn["sharpness_ratio"], 2), "1", "", "≥ 0.77"],
        *(
            [
                f"to compare: the Frechet ratio of reconstructions {words}",
                _tell(spoiled[name], 2),
                "",
                "",
                "",
            ]
            for name, words in _SPOILED.items()
        ),
    ]


def _tell_variants(variants: Sequence[dict[str, Any]]) -> _Table:
    heads = ["steps", "guidance", *_PROMISES, *(f"{name}, less 10 / 3" for name in _PROMISES)]
    heads += ["Frechet, reconstructed = 1", "the same, less 10 / 3", "sharpness, reconstructed = 1"]
    rows = [
        [
            str(variant["steps"]),
            f"{variant['guidance_scale']:g}",
            *(_tell_share(variant["figures"][name]) for name in _PROMISES),
            *(_tell_difference(variant["differences"][name]) for name in _PROMISES),
            _tell(variant["figures"]["frechet_ratio"], 2),
            _tell(variant["differences"]["frechet_ratio"], 2),
            _tell(variant["figures"]["sharpness_ratio"], 2),
            f"{variant['median_seconds']:.2f}",
        ]
        for variant in variants
    ]
    return [*heads, "seconds of a single picture, median"], rows


def _tell_pairs(pairs: dict[str, Any]) -> _Table:
    rows = [
        [
            words,
            *(_tell_share(pairs[name]["figures"][key]) for key in _PROMISES),
            *(_tell_difference(pairs[name].get("differences", {}).get(key)) for key in _PROMISES),
        ]
        for name, words in _PAIRS.items()
    ]
    return ["more of everything", *_PROMISES, *(f"{name}, gained" for name in _PROMISES)], rows


def _tell_scores(scores: dict[str, Any], floor: float) -> _Table:
    likeness, drawn = scores["likeness"], scores["drawn_likeness"]
    rows = [
        *([f"likeness {words}", _tell(likeness[key], 3)] for key, words in _LIKENESS_ROWS.items()),
        *([words, _tell_share(likeness[key])] for key, words in _LIKENESS_SHARES.items()),
        ["likeness of the reference to what was drawn of it", _tell(drawn["own"], 3)],
        ["to what was drawn of another", _tell(drawn["other"], 3)],
        ["it is higher for what was drawn of it", _tell_share(drawn["above_other"])],
    ]
    for name, words in (("detector", "true drawings"), ("detector_on_drawn", "what was drawn")):
        found = scores.get(name, dict.fromkeys(("pck_0.1", "pck_0.05", "found")))
        rows += [
            [f"keypoint detector on {words}: PCK@0.1", _tell_share(found["pck_0.1"])],
            ["PCK@0.05", _tell_share(found["pck_0.05"])],
            ["somebody is found", _tell_share(found["found"])],
        ]
    return [f"the product's own scores (likeness 0 is a cosine of {floor:g}, 1 of 1)", ""], rows


def _tell_attributes(conditions: dict[str, Any]) -> _Table:
    names = (*MAIN_ATTRIBUTES, *OPTIONAL_ATTRIBUTES, "hat_colour", "layer_colour", "layer_pattern")
    rows = [[name, *(_tell_alone(conditions[column][name]) for column in _COLUMNS)] for name in names]
    return ["attribute", *_COLUMNS.values()], rows


def _tell_share(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value, low, high = (100 * min(1.0, max(0.0, figure[key])) for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f}, n = {figure['count']})"


def _tell_difference(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value, low, high = (f"{100 * figure[key]:+.1f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high}, n = {figure['count']})"


def _tell_alone(figure: dict[str, Any] | None) -> str:
    return "–" if figure is None else f"{100 * figure['value']:.1f} %"


def _tell(figure: dict[str, Any] | None, digits: int) -> str:
    if figure is None:
        return "–"
    value, low, high = (f"{figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high}, n = {figure['count']})"


def _write_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
