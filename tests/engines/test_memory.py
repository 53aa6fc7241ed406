"""Running out of memory leaves nothing behind that the next drawing would lack."""

from __future__ import annotations

import weakref

import pytest
import torch

from understudy.engines import EngineError
from understudy.engines.memory import out_of_memory_explained


def test_what_was_being_worked_on_is_let_go_before_the_error_is_handled():
    made = []

    def draw() -> None:
        latents = torch.ones(4)
        made.append(weakref.ref(latents))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineError) as raised, out_of_memory_explained():
        draw()
    assert raised.value.code == "out_of_memory"
    assert raised.value.__context__ is not None, "the error holds the one that it explains"
    assert made[0]() is None
