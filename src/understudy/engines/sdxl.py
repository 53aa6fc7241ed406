"""The SDXL engine: a ControlNet for the pose, an IP-Adapter for the character.

One code for the embedded checkpoint and for real SDXL weights; `checkpoint.py` loads either.
It knows one batch of requests at a time, and nothing of jobs, files or messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from diffusers import StableDiffusionXLControlNetPipeline
from PIL import Image
from torch.nn import functional

from ..settings import Settings
from . import DrawRequest, DrawResult, OnStep
from .canvas import choose_canvas, resize_picture
from .checkpoint import (
    Checkpoint,
    Profile,
    find_checkpoint,
    load_detector,
    load_pipeline,
)
from .conditions import Conditions
from .cores import Cores
from .detector import PoseDetector, is_detector_installed
from .device import choose_device, count_cores, prepare_torch, torch_for_drawing
from .embeddings import Embeddings
from .face_pass import FacePass
from .fitting import (
    WARM_UP_SIZE,
    choose_first_place,
    compile_engine,
    fit_pipeline,
    make_blank_references,
    measure_memory,
)
from .idle import warn_of_idle_parameters, warn_of_long_text, warn_of_step_count
from .likeness import score_likeness
from .loading import loading
from .memory import out_of_memory_explained
from .passes import Pass
from .pose_finder import PoseFinder
from .preview import Previewer, sketch_latents
from .replay import ReplayedForward
from .usual_pose import take_usual_pose
from .watch import AllCancelled, Watch

MOST_TOGETHER = 4
"""The most pictures of one batch, so that no cancel and no other request waits for long."""


def load_sdxl(settings: Settings, checkpoint: Checkpoint | None = None) -> SdxlEngine:
    """Load the checkpoint that the settings name, or the given one, onto the device that they name.

    Raises:
        EngineError: weights or device are missing (`engine_load_failed`).
    """
    device = choose_device(settings.device)
    if checkpoint is None:
        checkpoint = find_checkpoint(settings)
    if checkpoint.detector is None and not is_detector_installed(settings):
        # Nothing would find a face to be read.
        checkpoint = replace(checkpoint, ip_adapter_face_weights=None)
    profile = checkpoint.profile
    # Cores that share the rows of a batch would only be disturbed by sharing single operations too.
    replayed = profile.small_networks and torch.device(device).type == "cpu"
    prepare_torch(1 if replayed else count_cores(settings))
    memory = measure_memory(settings, profile.name, device)
    pipeline = load_pipeline(checkpoint, device, choose_first_place(device, memory))
    cores = Cores(count_cores(settings) if replayed else 1)
    if replayed:
        _replay_networks(pipeline, cores)
    if not profile.small_networks:
        with loading("model", "UNDERSTUDY_SDXL_MODEL"):
            fit_pipeline(pipeline, device, memory)
    detector = load_detector(checkpoint)
    engine = SdxlEngine(
        pipeline,
        profile,
        device,
        cores,
        detector,
        PoseFinder(detector, settings=settings),
        settings.sdxl_face_pass,
    )
    if not profile.small_networks:
        compile_engine(engine, pipeline, settings, memory, engine.make_references)
    return engine


class SdxlEngine:
    """A loaded SDXL-shaped pipeline on one device. Draws one batch at a time."""

    scores_likeness = True

    def __init__(
        self,
        pipeline: StableDiffusionXLControlNetPipeline,
        profile: Profile,
        device: str,
        cores: Cores | None = None,
        detector: PoseDetector | None = None,
        poses: PoseFinder | None = None,
        face_pass: bool = False,
    ) -> None:
        """`cores` do at the same time what nothing else divides among them; `poses` finds faces, by the
        `detector` if not given; with a `face_pass` small faces are drawn a second time."""
        self._cores = cores or Cores(1)
        self._threads = torch.get_num_threads()
        self.detector = detector
        self.name = profile.name
        self.version = profile.version
        self.preset = profile.preset
        self.device = device
        self.batch_size = _choose_batch_size(device, profile)
        self._profile = profile
        self._posed = pipeline
        if hasattr(pipeline.vae, "enable_slicing"):
            # Decoding takes the most memory of all: one picture after another.
            pipeline.vae.enable_slicing()
        self._ip_scales: list[float] = []
        poses = poses or PoseFinder(detector)
        self._embeddings = Embeddings(pipeline, poses.find_face)
        self._conditions = Conditions(self._embeddings, self._cores)
        self._pass = Pass(pipeline, pipeline.scheduler, profile, self._conditions)
        self._face_pass = FacePass(pipeline, profile, self._conditions, poses) if face_pass else None

    def draw(self, requests: Sequence[DrawRequest], on_step: OnStep) -> list[DrawResult | None]:
        """Draw pictures at the model's own size and bring them to the asked one.

        The requests agree as `DrawRequest` says. A cancelled one is drawn on for nothing as long
        as others go on: that leaves them as they are.

        Raises:
            EngineError: the memory does not suffice (`out_of_memory`).
        """
        posed = [take_usual_pose(request, self._profile.usual_pose) for request in requests]
        requests = [request for request, _ in posed]
        results: list[DrawResult | None] = [None] * len(requests)
        with out_of_memory_explained(), torch_for_drawing(self._threads):
            for places in self._conditions.group_alike(requests):
                drawn = self._draw_alike([requests[place] for place in places], Watch(places, on_step))
                for place, result in zip(places, drawn, strict=True):
                    if result is not None:
                        results[place] = replace(result, warnings=[*result.warnings, *posed[place][1]])
        return results

    def score_likeness(self, references: Sequence[Image.Image], picture: Image.Image) -> float | None:
        """How alike the characters in RGB pictures are, 0 to 1 (`likeness.py` has the formula).

        Several references are one character: the mean of their identities counts.
        """
        with out_of_memory_explained(), torch_for_drawing(self._threads):
            known = [self._embeddings.encode_reference(reference).identity for reference in references]
            drawn = self._embeddings.encode_identity(picture)
        mean = functional.normalize(torch.stack(known).mean(dim=0), dim=0)
        return score_likeness(mean, drawn, self._profile.likeness_floor)

    def make_references(self) -> list[Image.Image]:
        """Pictures to warm up with: one that shows nothing and, where faces are read, one that counts as
        a face."""
        references = make_blank_references()
        if self._embeddings.reads_faces:
            face = Image.new("RGB", WARM_UP_SIZE, "black")
            self._embeddings.encode_reference(face, is_face=True)
            references.append(face)
        return references

    def _draw_alike(self, requests: Sequence[DrawRequest], watch: Watch) -> list[DrawResult | None]:
        """Draw requests whose references show the same number of faces."""
        first, profile = requests[0], self._profile
        canvas = choose_canvas(first.width, first.height, profile.canvas_pixels, profile.canvas_multiple)
        scale = (canvas[0] / first.width, canvas[1] / first.height, 1.0)
        self._set_ip_scale(first)
        again = 0 if self._face_pass is None else self._face_pass.count_steps(first)
        previewer = Previewer(self._posed.scheduler, partial(sketch_latents, self._posed.vae))
        steps = self.preset.count_steps(first.steps)
        try:
            pictures = self._pass.run(
                requests,
                canvas,
                [None if request.skeleton is None else request.skeleton * scale for request in requests],
                *self._pass.seed_noise([request.seed for request in requests], canvas),
                steps,
                watch.report_steps(previewer, after=again),
            )
        except AllCancelled:
            return [None] * len(requests)
        pictures = [resize_picture(picture, (first.width, first.height), self._cores) for picture in pictures]
        warnings = [[*self._warn(request)] for request in requests]
        if self._face_pass is not None:
            pictures, more = self._face_pass.redraw(requests, pictures, watch, steps)
            warnings = [[*known, *new] for known, new in zip(warnings, more, strict=True)]
        return [
            DrawResult(picture=picture, warnings=told) if wanted else None
            for picture, told, wanted in zip(pictures, warnings, watch.wanted, strict=True)
        ]

    def _set_ip_scale(self, request: DrawRequest) -> None:
        """Have the reference act as strongly as asked, and its face with a share of that."""
        scale = self._profile.ip_scale if request.ip_scale is None else request.ip_scale
        scales = [scale]
        if self._embeddings.reads_faces:
            scales.append(self._profile.face_share * scale if self._conditions.count_faces(request) else 0.0)
        if scales == self._ip_scales:
            return
        self._posed.set_ip_adapter_scale(scales)
        self._ip_scales = scales
        if isinstance(self._posed.unet.forward, ReplayedForward):
            self._posed.unet.forward.forget()

    def _warn(self, request: DrawRequest) -> Iterator[str]:
        yield from warn_of_idle_parameters(request, self.preset.idle)
        yield from warn_of_step_count(request.steps, self.preset.count_steps(request.steps))
        for name in ("prompt", "negative_prompt"):
            if name not in self.preset.idle:
                count, read = self._embeddings.count_tokens(getattr(request, name))
                yield from warn_of_long_text(name, count, read)


def _replay_networks(pipeline: StableDiffusionXLControlNetPipeline, cores: Cores) -> None:
    unet, controlnet = pipeline.unet, pipeline.controlnet
    outputs = ("down_block_additional_residuals", "mid_block_additional_residual")
    unet.forward = ReplayedForward(unet.forward, outputs, cores)
    config = controlnet.config
    blocks = (*config.down_block_types, config.mid_block_type)
    reads_prompt = config.addition_embed_type is not None or any("CrossAttn" in block for block in blocks)
    told_apart_by = None if reads_prompt else "controlnet_cond"
    controlnet.forward = ReplayedForward(controlnet.forward, (), cores, told_apart_by)


def _choose_batch_size(device: str, profile: Profile) -> int:
    """How many pictures to draw together.

    On a GPU a batch fills what one picture leaves idle; as many as its free memory holds, now
    that the weights are loaded. A CPU is full with one picture, of small networks too: two cores draw
    1, 2, 4 and 8 together in 0.53, 0.51, 0.53 and 0.58 s a picture (`benchmarks/bench.py engine`),
    and one after another each is there sooner.
    """
    if torch.device(device).type != "cuda":
        return 1
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_TOGETHER, free_bytes // profile.picture_bytes))
