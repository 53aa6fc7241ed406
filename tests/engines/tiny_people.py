"""Networks with the inputs and outputs of YOLOX and RTMW, as ONNX files that are made here.

Whoever they tell of stands always the same in the crop, with the nose at its reddest place and the left
eye at its bluest; without any red in the crop all scores are below 0.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT = 192, 256
SHOWN, HIDDEN = 0.85, 0.1
"""Scores where there is red: (255 - 123.675) / 58.395 above the peaks that stand in the network."""
_RED_LEVEL = (255 - 123.675) / 58.395


def stand_in_crop() -> numpy.ndarray:
    """Where the 133 points of COCO-WholeBody stand, (133, 2) in pixels of the crop; the first two at 0."""
    points = numpy.zeros((133, 2))
    points[2:17] = [
        *((88, 36), (108, 40), (84, 40)),
        *((120, 76), (72, 76), (130, 106), (62, 106), (134, 136), (58, 136)),
        *((110, 140), (82, 140), (112, 180), (80, 180), (114, 220), (78, 220)),
    ]
    points[17:23] = (96, 230)
    turns = numpy.linspace(0, 2 * numpy.pi, 68, endpoint=False)
    points[23:91] = numpy.stack([96 + 12 * numpy.cos(turns), 40 + 12 * numpy.sin(turns)], axis=1).round()
    for hand, wrist in ((slice(91, 112), (134, 136)), (slice(112, 133), (58, 136))):
        points[hand] = numpy.array(wrist) + [(number % 5 - 2, number // 5 * 2) for number in range(21)]
    return points


def save_person_model(path: Path, boxes: Sequence[tuple[float, float, float, float, float]]) -> Path:
    """YOLOX whose answer is always these boxes: left, top, right, bottom in its 640 x 640 px, and a score."""
    detections = numpy.array(boxes, numpy.float32).reshape(1, -1, 5)
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nought"], ["nothing"]),
        helper.make_node("Add", ["boxes", "nothing"], ["dets"]),
        helper.make_node("Identity", ["classes"], ["labels"]),
    ]
    values = {
        "nought": numpy.float32(0),
        "boxes": detections,
        "classes": numpy.zeros(detections.shape[:2], numpy.int64),
    }
    outputs = [
        helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, None, 5]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [1, None]),
    ]
    return _save(path, nodes, values, [1, 3, 640, 640], outputs)


def save_pose_model(path: Path, hidden: Sequence[int] = ()) -> Path:
    """RTMW of 256 x 192 px; of COCO's points those that are `hidden` have the score `HIDDEN`."""
    scores = numpy.full(133, SHOWN)
    scores[list(hidden)] = HIDDEN
    nodes, values = [], {"one": numpy.array([1]), "red": numpy.array([0]), "blue": numpy.array([2])}
    nodes.append(helper.make_node("ReduceMax", ["red_plane"], ["reddest"], keepdims=0))
    for colour in ("red", "blue"):
        nodes.insert(0, helper.make_node("Gather", ["input", colour], [f"{colour}_plane"], axis=1))
    places = stand_in_crop()
    for axis, (name, length) in enumerate((("x", WIDTH), ("y", HEIGHT))):
        peaks = numpy.full((1, 133, 2 * length), -20, numpy.float32)
        rows = numpy.arange(2, 133)
        peaks[0, rows, (2 * places[2:, axis]).astype(int)] = (scores - _RED_LEVEL)[2:]
        values |= {
            f"peaks_{name}": peaks[:, 2:],
            # Of the planes (1, height, width) the other axis goes.
            f"cut_{name}": numpy.array([1 if name == "x" else 2]),
            f"shape_{name}": numpy.array([1, 1, length, 1]),
            "twice": numpy.array([1, 1, 1, 2]),
            f"flat_{name}": numpy.array([1, 1, 2 * length]),
            "low": numpy.float32(_RED_LEVEL - SHOWN),
        }
        for colour in ("red", "blue"):
            part = f"{colour}_{name}"
            nodes += [
                helper.make_node("Squeeze", [f"{colour}_plane", "one"], [f"{part}_plane"]),
                helper.make_node("ReduceMax", [f"{part}_plane", f"cut_{name}"], [f"{part}_most"], keepdims=1),
                helper.make_node("Reshape", [f"{part}_most", f"shape_{name}"], [f"{part}_row"]),
                helper.make_node("Tile", [f"{part}_row", "twice"], [f"{part}_rows"]),
                helper.make_node("Reshape", [f"{part}_rows", f"flat_{name}"], [f"{part}_line"]),
                helper.make_node("Sub", [f"{part}_line", "low"], [f"{part}_point"]),
            ]
        nodes += [
            helper.make_node("Add", [f"peaks_{name}", "reddest"], [f"others_{name}"]),
            helper.make_node(
                "Concat",
                [f"red_{name}_point", f"blue_{name}_point", f"others_{name}"],
                [f"simcc_{name}"],
                axis=1,
            ),
        ]
    outputs = [
        helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, [1, 133, 2 * WIDTH]),
        helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, [1, 133, 2 * HEIGHT]),
    ]
    return _save(path, nodes, values, [1, 3, HEIGHT, WIDTH], outputs)


def _save(path: Path, nodes: list, values: dict, shape: list[int], outputs: list) -> Path:
    """Write an ONNX file, or a .zip with one as the published archives have it."""
    constants = [numpy_helper.from_array(numpy.asarray(value), name) for name, value in values.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{path.stem}/end2end.onnx", model.SerializeToString())
    else:
        onnx.save(model, path)
    return path
