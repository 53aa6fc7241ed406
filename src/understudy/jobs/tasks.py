"""A request's parameters -> the tasks a worker draws, one for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..executors.messages import Task
from ..parameters import MAX_SEED, PICTURE_FIELDS, Parameters, Pose
from ..pictures import digest_picture
from ..pose.library import find_pose

_NOT_DESCRIBED = {*PICTURE_FIELDS, "pose", "poses", "seed", "webhook_url"}
"""Parameters that a file tells in other words, each picture its own, or not at all."""


def build_tasks(
    parameters: Parameters,
    *,
    model: str,
    engine: str | None = None,
    seed: int,
    references: Sequence[bytes],
    pose_picture: bytes | None = None,
    id_prefix: str = "",
    previews: bool = False,
) -> tuple[list[Task], dict[str, bytes]]:
    """The tasks of one request for an engine, in the order of its pictures, and the files they name by
    digest.

    `references`, all of one character, and `pose_picture` are PNG files as the decoder makes them.
    Every pose of a sheet starts from the same seed; the pictures of one pose count up from it.
    Task ids are `<id_prefix><index>`; with `previews` each picture comes with a small copy.

    Raises:
        InvalidRequest: a pose has a name that is not in the library.
    """
    pictures = {digest_picture(reference): reference for reference in references}
    reference_digests = list(pictures)
    pose_digest = None
    if pose_picture is not None:
        pose_digest = digest_picture(pose_picture)
        pictures[pose_digest] = pose_picture
    provenance = _describe(parameters, model, reference_digests, pose_digest)
    tasks: list[Task] = []
    for pose, picture_seed in list_asked(parameters.asked_poses, parameters.num_images, seed):
        tasks.append(
            Task(
                id=f"{id_prefix}{len(tasks)}",
                engine=engine,
                prompt=parameters.prompt,
                negative_prompt=parameters.negative_prompt,
                guidance_scale=parameters.guidance_scale,
                steps=parameters.steps,
                width=parameters.width,
                height=parameters.height,
                seed=picture_seed,
                candidates=parameters.candidates,
                ip_scale=parameters.ip_scale,
                pose_scale=parameters.pose_scale,
                references=reference_digests,
                pose_picture=pose_digest,
                keypoints=None if pose is None else _resolve_keypoints(pose),
                fit_pose=isinstance(pose, str),
                output_format=parameters.output_format,
                provenance={
                    **provenance,
                    "pose": find_pose(pose).name if isinstance(pose, str) else pose,
                },
                preview=previews,
            )
        )
    return tasks, pictures


def list_asked(poses: Sequence[Pose | None], num_images: int, seed: int) -> list[tuple[Pose | None, int]]:
    """The pose and the seed of each picture of a request, in their order."""
    return [(pose, (seed + number) % (MAX_SEED + 1)) for pose in poses for number in range(num_images)]


def count_steps(parameters: Parameters) -> int:
    """Denoising steps over all pictures and candidates of a request: the scale of its progress."""
    return parameters.picture_count * parameters.candidates * parameters.steps


def _resolve_keypoints(pose: Pose) -> list[tuple[float, float, float]]:
    points: Any = find_pose(pose).keypoints if isinstance(pose, str) else pose
    return [
        (0.0, 0.0, 0.0)
        if point is None
        else (float(point[0]), float(point[1]), float(point[2]) if len(point) > 2 else 1.0)
        for point in points
    ]


def _describe(
    parameters: Parameters, model: str, reference_digests: list[str], pose_digest: str | None
) -> dict[str, Any]:
    """What is written into the files: every parameter, but of pictures only their digests."""
    described = parameters.model_dump(mode="json", exclude=_NOT_DESCRIBED)
    described["model"] = model
    described["ip_image_sha256"] = reference_digests[0] if len(reference_digests) == 1 else reference_digests
    if pose_digest is not None:
        described["input_image_sha256"] = pose_digest
    return described
