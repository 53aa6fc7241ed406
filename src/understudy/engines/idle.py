"""What of a request does not act, as sentences for its `warnings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from . import DrawRequest

_DEFAULTS = {field.name: field.default for field in fields(DrawRequest)}


def warn_of_idle_parameters(request: DrawRequest, idle: Mapping[str, str] | None = None) -> Iterator[str]:
    """A sentence for each parameter that was given and does not act.

    `idle` names those that never do with the engine, and says why. One that has its default counts
    as not given.
    """
    idle = idle or {}
    for name, reason in idle.items():
        if getattr(request, name) != _DEFAULTS[name]:
            yield f"{name} does not act: {reason}."
    if request.negative_prompt and request.guidance_scale <= 1 and "negative_prompt" not in idle:
        yield "negative_prompt does not act at guidance_scale 1; raise it to use both."
    if request.pose_scale is not None and request.skeleton is None and "pose_scale" not in idle:
        yield "pose_scale does not act without a pose; give pose, poses or input_image."


def warn_of_step_count(asked: int, drawn: int) -> Iterator[str]:
    """A sentence when a model draws in fewer or more steps than were asked for."""
    if drawn < asked != _DEFAULTS["steps"]:
        yield f"steps does not act above {drawn}: this model is distilled to draw in so many."
    elif drawn > asked:
        yield f"steps does not act below {drawn}: this model cannot draw in fewer."


def warn_of_long_text(name: str, count: int, read: int) -> Iterator[str]:
    """A sentence when the model reads only the first `read` of a text's `count` tokens."""
    if count > read:
        yield f"The {name} has {count} tokens; the model reads the first {read}, the rest was ignored."
