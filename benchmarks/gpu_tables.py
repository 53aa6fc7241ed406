"""What the GPU benchmark found, as tables in Markdown."""

from __future__ import annotations

import statistics
from typing import Any


def describe(found: dict[str, Any]) -> list[str]:
    """The results as lines of Markdown."""
    machine = found["machine"]
    lines = [
        f"{machine['device']}, PyTorch {machine['torch']}, diffusers {machine['diffusers']}; a matrix "
        f"product runs at {machine['matrix_product_tflops']:.3g} TFLOP/s.",
        "",
        "| drawing | plain call, s | ours, s | times faster | share of the limit | GiB beside weights |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [("SDXL, one picture", found.get("sdxl"))]
    rows += [
        (f"SDXL, {count} together", one) for count, one in found.get("batches", {}).get("sizes", {}).items()
    ]
    rows += [("FLUX.2-klein 4B, 4 steps", found.get("klein")), ("Qwen-Image-Edit", found.get("qwen"))]
    for title, one in rows:
        if one and "left_out" in one:
            lines.append(f"| {title} | left out: {one['left_out']} | | | | |")
        elif one:
            lines.append(f"| {title} | {' | '.join(describe_times(one))} |")
    for title, one in rows:
        if one and "parts" in one:
            lines += ["", *describe_parts(title, one)]
    if "api" in found:
        lines += ["", *describe_api(found["api"])]
    return lines


def describe_times(one: dict[str, Any]) -> list[str]:
    """The cells of one row."""
    plain, ours = (
        statistics.median(one[name]["seconds"]) if "seconds" in one[name] else None
        for name in ("stock", "ours")
    )
    cells = [
        f"failed ({one[name]['failed']})" if seconds is None else f"{seconds:.3f}"
        for name, seconds in (("stock", plain), ("ours", ours))
    ]
    if ours is None:
        return [*cells, "", "", ""]
    blank = one["ours"]["blank_pictures"]
    return [
        *cells,
        "" if plain is None else f"{plain / ours:.2f}",
        f"{one['limit_seconds'] / ours:.0%}",
        f"{one['ours']['work_gib']:.1f}" + (f" ({blank} pictures without content)" if blank else ""),
    ]


def describe_parts(title: str, one: dict[str, Any]) -> list[str]:
    """A table of where the time goes."""
    names = list(dict.fromkeys([*one["parts"]["stock"], *one["parts"]["ours"]]))
    lines = [
        f"{title}: {one['tflop']:.3g} TFLOP, {one['limit_seconds']:.3f} s at the least; weights "
        f"{one['weights_gib']['ours']:.1f} GiB.",
        "",
        "| part | plain call, ms | ours, ms |",
        "| --- | ---: | ---: |",
    ]
    for name in names:
        plain, ours = (one["parts"][which].get(name, 0.0) * 1000 for which in ("stock", "ours"))
        lines.append(f"| {name} | {plain:.1f} | {ours:.1f} |")
    return lines


def describe_api(api: dict[str, Any]) -> list[str]:
    """A table of the service's throughput."""
    lines = [
        f"Through the service ({api['engine']}); its first picture was there "
        f"{api['start_seconds']:.0f} s after its start.",
        "",
        "| clients | pictures/s | p50, s | longest, s |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for count, one in api["clients"].items():
        cells = (one[name] for name in ("pictures_per_second", "p50_seconds", "most_seconds"))
        lines.append(f"| {count} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return lines
