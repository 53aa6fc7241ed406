"""The processes that `engine.py` compares: `python benchmarks/drawing_processes.py ours|plain|start`.

The first two read orders as lines of JSON and answer each with one.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

SIDE, CANVAS_SIDE = 1024, 128
STEPS, GUIDANCE = 10, 3.0
BATCH_SIZES = (1, 2, 4, 8)
HAIR = ("short black hair", "long red hair", "blond hair", "brown ponytail", "white hair", "curly brown hair")
CLOTHES = ("red plaid shirt, blue jeans", "green dress", "yellow raincoat", "blue suit", "grey hoodie")
POSES = ("wave", "run", "jump", "stand", "sit", "point")


def main() -> None:
    """Be one of the measured processes."""
    match sys.argv[1:]:
        case ["ours"]:
            answer_lines(OursChild())
        case ["plain"]:
            answer_lines(PlainChild())
        case ["start"]:
            print(json.dumps(measure_start_parts()))
        case _:
            sys.exit("usage: drawing_processes.py ours|plain|start")


class OursChild:
    """Draws with this engine."""

    def __init__(self) -> None:
        from understudy.engines import load_engine
        from understudy.settings import Settings

        self.engine = load_engine(Settings(engine="toon", device="cpu"))

    def draw_references(self, folder: str, count: int) -> dict[str, Any]:
        """Draw the characters that both are given, `reference-<number>.png`."""
        with Image.open(Path(__file__).parents[1] / "examples" / "young-man.png") as picture:
            reference = picture.convert("RGB")
        for number in range(count):
            # Mostly by the prompt, so that they differ from the one character there is.
            result = self._draw([number], [reference], ip_scale=0.2, seed=1000)[0]
            result.picture.save(Path(folder) / f"reference-{number}.png")
        # What was encoded for these is asked for again: nothing of it may be remembered.
        self._forget()
        return {}

    def draw(self, folder: str, number: int) -> dict[str, Any]:
        """Draw one picture into `ours-<number>.png`."""
        reference = open_reference(folder, number)
        answer, (result,) = time_call(lambda: self._draw([number], [reference]))
        result.picture.save(Path(folder) / f"ours-{number}.png")
        return answer

    def time_tasks(self, folder: str, count: int) -> dict[str, Any]:
        """Send tasks through the worker: first to time the whole, then again for its parts."""
        from understudy.executors.messages import Drawn, Run, decode_to_worker, encode_frame
        from understudy.worker import Worker

        def perform(number: int) -> float:
            worker = Worker(self.engine)
            self._forget()
            reference = (Path(folder) / f"reference-{number}.png").read_bytes()
            frame = encode_frame(Run([make_task(number, "reference")], {"reference": reference}))
            sent: list[bytes] = []
            begun = time.perf_counter()
            worker.perform(
                decode_to_worker(frame[4:]), lambda task_id: False, lambda m: sent.append(encode_frame(m))
            ).result()
            seconds = time.perf_counter() - begun
            assert any(Drawn.__struct_config__.tag.encode() in frame[:40] for frame in sent)
            return seconds

        perform(0)
        seconds = [perform(number) for number in range(count)]
        parts: dict[str, list[float]] = defaultdict(list)
        for number in range(count):
            with timed_parts(self.engine) as spent:
                perform(number)
            for name, value in spent.items():
                parts[name].append(value)
        return {"seconds": seconds, "parts": parts}

    def time_batches(self, folder: str, rounds: int) -> dict[str, Any]:
        """Draw the same eight pictures in batches of each size."""
        numbers = list(range(max(BATCH_SIZES)))
        references = [open_reference(folder, number) for number in numbers]
        alone = [self._draw([number], [references[number]])[0].picture for number in numbers]
        sizes: dict[int, dict[str, Any]] = {size: {"seconds": [], "psnr": None} for size in BATCH_SIZES}
        for _ in range(rounds):
            for size, found in sizes.items():
                pictures: list[Image.Image] = []
                begun = time.perf_counter()
                for start in range(0, len(numbers), size):
                    self._forget()
                    these = numbers[start : start + size]
                    drawn = self._draw(these, [references[number] for number in these])
                    pictures += [result.picture for result in drawn]
                found["seconds"].append((time.perf_counter() - begun) / len(numbers))
                if size > 1:
                    pairs = zip(pictures, alone, strict=True)
                    found["psnr"] = min(measure_psnr(numpy.asarray(a), numpy.asarray(b)) for a, b in pairs)
        return {"sizes": sizes}

    def _draw(
        self, numbers: list[int], references: list[Image.Image], seed: int = 0, **changes: Any
    ) -> list[Any]:
        from understudy.engines import DrawRequest

        requests = [
            DrawRequest(
                prompt=make_prompt(number),
                references=[reference],
                width=SIDE,
                height=SIDE,
                seed=seed + number,
                skeleton=make_skeleton(number, SIDE),
                steps=STEPS,
                guidance_scale=GUIDANCE,
                **changes,
            )
            for number, reference in zip(numbers, references, strict=True)
        ]
        return self.engine.draw(requests, lambda *step: True)

    def _forget(self) -> None:
        self.engine._embeddings._texts.clear()
        self.engine._embeddings._references.clear()


class PlainChild:
    """Draws with the diffusers pipeline, called as diffusers' pages call it."""

    def __init__(self) -> None:
        import torch
        import understudy_toon
        from diffusers import StableDiffusionXLControlNetPipeline

        from understudy.engines.toon_autoencoder import ToonAutoencoder

        place = understudy_toon.checkpoint_path()
        self.pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
            place, vae=ToonAutoencoder.from_pretrained(place / "vae"), dtype=torch.float32
        )
        self.pipeline.load_ip_adapter(
            str(place), subfolder="ip_adapter", weight_name="ip_adapter.safetensors"
        )
        self.pipeline.set_ip_adapter_scale(1.0)
        self.pipeline.set_progress_bar_config(disable=True)

    def draw(self, folder: str, number: int) -> dict[str, Any]:
        """Draw one picture into `plain-<number>.png`."""
        import torch

        from understudy.pose.drawing import StickStyle, draw_skeleton

        reference = open_reference(folder, number)
        noise = numpy.random.default_rng(number).standard_normal((1, 32, 16, 16), dtype=numpy.float32)

        def call() -> Image.Image:
            skeleton = make_skeleton(number, CANVAS_SIDE)
            picture = self.pipeline(
                make_prompt(number),
                image=draw_skeleton(skeleton, CANVAS_SIDE, CANVAS_SIDE, StickStyle.TOON),
                ip_adapter_image=reference,
                latents=torch.from_numpy(noise),
                width=CANVAS_SIDE,
                height=CANVAS_SIDE,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
            ).images[0]
            return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

        answer, picture = time_call(call)
        picture.save(Path(folder) / f"plain-{number}.png")
        return answer


def measure_start_parts() -> dict[str, float]:
    """Seconds of each part of a worker's start, in this fresh process."""
    parts: dict[str, float] = {}
    begun = time.perf_counter()

    def end(name: str) -> None:
        nonlocal begun
        parts[name], begun = time.perf_counter() - begun, time.perf_counter()

    import understudy.worker

    end("part: the worker's own modules")
    import torch

    end("part: torch")
    import understudy.engines.sdxl

    end("part: diffusers and transformers")
    understudy.engines.load_engine(understudy.worker.Settings(engine="toon", device="cpu"))
    assert torch.get_num_threads() >= 1
    end("part: weights")
    return parts


@contextmanager
def timed_parts(engine: Any) -> Iterator[dict[str, float]]:
    """Time the parts of a task while the block runs, by putting a clock around each."""
    import understudy.engines.passes
    import understudy.engines.pose_finder
    import understudy.engines.sdxl
    import understudy.worker

    spent: dict[str, float] = {}
    pipeline, embeddings = engine._posed, engine._embeddings
    parts = [
        ("the reference's file opened", understudy.worker.Worker, "_open_picture"),
        ("prompt encoded", embeddings, "encode_text"),
        ("reference encoded", embeddings, "encode_reference"),
        ("skeleton drawn", understudy.engines.passes, "draw_skeleton"),
        ("ControlNet", pipeline.controlnet, "forward"),
        ("UNet", pipeline.unet, "forward"),
        ("scheduler", pipeline.scheduler, "step"),
        ("previews: seen", understudy.engines.sdxl.Previewer, "show"),
        ("previews: encoded", understudy.worker, "encode_preview"),
        ("autoencoder", pipeline.vae, "decode"),
        (f"enlarged to {SIDE} x {SIDE}", Image.Image, "resize"),
        ("likeness", embeddings, "encode_identity"),
        ("pose scored", understudy.engines.pose_finder.PoseFinder, "score"),
        ("PNG encoded", understudy.worker, "encode_picture"),
    ]
    inside: list[str] = []

    def put_clock(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            inside.append(name)
            begun = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds = time.perf_counter() - begun
                inside.pop()
                spent[name] = spent.get(name, 0.0) + seconds
                if inside:
                    # A part within another is counted once, as its own.
                    spent[inside[-1]] = spent.get(inside[-1], 0.0) - seconds

        return timed

    own: list[tuple[Any, str, bool, Any]] = []
    try:
        for name, owner, attribute in parts:
            before = getattr(owner, attribute)
            own.append((owner, attribute, attribute in vars(owner), before))
            setattr(owner, attribute, put_clock(name, before))
        yield spent
    finally:
        for owner, attribute, was_own, before in reversed(own):
            if was_own:
                setattr(owner, attribute, before)
            else:
                delattr(owner, attribute)


def time_call(call: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Seconds and CPU seconds of a call, and its result."""
    used, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = call()
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}, result


def measure_psnr(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures of 0..255, in dB; 99 for equal ones."""
    error = float(numpy.square(first.astype(float) - second).mean())
    return 99.0 if error == 0 else float(10 * numpy.log10(255**2 / error))


def make_prompt(number: int) -> str:
    """Another character for each number."""
    who = ("young man", "young woman", "old man", "old woman")[number % 4]
    return f"{who}, {HAIR[number % len(HAIR)]}, {CLOTHES[number % len(CLOTHES)]}"


def make_skeleton(number: int, side: int) -> numpy.ndarray:
    """A named pose in pixels of a square canvas."""
    from understudy.pose.library import find_pose
    from understudy.pose.skeleton import fit_skeleton

    return fit_skeleton(numpy.array(find_pose(POSES[number % len(POSES)]).keypoints), side, side)


def make_task(number: int, reference: str) -> Any:
    """The default request as the worker is given it."""
    from understudy.executors.messages import Task
    from understudy.pose.library import find_pose

    keypoints = [tuple(map(float, point)) for point in find_pose(POSES[number % len(POSES)]).keypoints]
    return Task(
        id=f"task-{number}",
        prompt=make_prompt(number),
        references=[reference],
        keypoints=keypoints,
        fit_pose=True,
        seed=number,
        provenance={"prompt": make_prompt(number)},
    )


def open_reference(folder: str, number: int) -> Image.Image:
    """The reference of that number, its pixels read."""
    with Image.open(Path(folder) / f"reference-{number}.png") as picture:
        return picture.convert("RGB")


def answer_lines(child: Any) -> None:
    """Do what each line of standard input says, and answer with a line."""
    answers, sys.stdout = sys.stdout, io.StringIO()
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(getattr(child, order.pop("do"))(**order)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
