"""The pose of who is asked for without one, where a model draws nobody well without."""

from __future__ import annotations

from dataclasses import replace

from ..pose.library import find_pose, find_told_pose
from ..pose.skeleton import fit_skeleton
from . import DrawRequest


def take_usual_pose(request: DrawRequest, usual: str | None) -> tuple[DrawRequest, list[str]]:
    """A request with a pose, and a sentence for its `warnings` if it had none.

    A request without one takes the pose whose doing its prompt tells ("running"), else the named pose
    `usual`; where `usual` is None it stays as it is.
    """
    if usual is None or request.skeleton is not None:
        return request, []
    pose = find_told_pose(request.prompt) or find_pose(usual)
    skeleton = fit_skeleton(pose.keypoints, request.width, request.height)
    warning = f"No pose was given, and this model needs one: {pose.name} was taken; choose with pose."
    return replace(request, skeleton=skeleton), [warning]
