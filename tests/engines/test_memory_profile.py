"""Which memory profile an engine gets on a GPU, by the bytes that are free."""

from __future__ import annotations

import re

import pytest

from understudy.engines import EngineError
from understudy.engines.memory_profile import FOOTPRINTS, FULL, choose_memory_profile

BOTH = ("encoders", "denoiser")
CHOICES = {
    ("sdxl", 4): ("offload", BOTH, True),
    ("sdxl", 8): ("quantised", ("encoders",), True),
    ("sdxl", 12): ("offload", ("encoders",), True),
    ("sdxl", 16): ("full", (), True),
    ("sdxl", 24): ("full", (), False),
    ("sdxl", 48): ("full", (), False),
    ("sdxl", 80): ("full", (), False),
    ("flux2-klein", 8): ("quantised", ("encoders",), True),
    ("flux2-klein", 12): ("offload", ("encoders",), True),
    ("flux2-klein", 16): ("offload", ("encoders",), False),
    ("flux2-klein", 24): ("full", (), False),
    ("flux2-klein", 48): ("full", (), False),
    ("flux2-klein", 80): ("full", (), False),
    ("qwen-edit", 8): ("offload", BOTH, True),
    ("qwen-edit", 12): ("offload", BOTH, True),
    ("qwen-edit", 16): ("offload", BOTH, True),
    ("qwen-edit", 24): ("quantised", ("encoders",), True),
    ("qwen-edit", 48): ("offload", ("encoders",), False),
    ("qwen-edit", 80): ("full", (), False),
}
"""By engine and card in GB: the profile, what waits in the machine's memory, and whether it tiles."""


def free_bytes(gigabytes: float) -> int:
    """What is free of an empty card: the driver and the display keep some."""
    return int(gigabytes * 2**30 * 0.94)


@pytest.mark.parametrize(("engine", "card"), CHOICES)
def test_a_card_gets_the_best_that_fits(engine, card):
    profile = choose_memory_profile(engine, free_bytes(card))
    assert (profile.name, profile.waiting, profile.tiled) == CHOICES[engine, card]
    assert profile.device_bytes <= free_bytes(card)
    assert profile.words.startswith(f"{profile.name}: ")


@pytest.mark.parametrize("engine", FOOTPRINTS)
def test_one_byte_less_than_a_profile_takes_gets_another(engine):
    full = choose_memory_profile(engine, free_bytes(80))
    assert choose_memory_profile(engine, full.device_bytes) == full
    assert choose_memory_profile(engine, full.device_bytes - 1) != full


@pytest.mark.parametrize("engine", FOOTPRINTS)
@pytest.mark.parametrize("wanted", ["full", "quantised", "offload"])
def test_a_setting_overrides_the_choice(engine, wanted):
    assert choose_memory_profile(engine, free_bytes(80), wanted).name == wanted


@pytest.mark.parametrize(
    ("wanted", "free", "remedy"),
    [
        ("auto", 2 * 10**9, "use a larger GPU"),
        ("full", 20 * 10**9, "set UNDERSTUDY_MEMORY_PROFILE to auto"),
    ],
)
def test_too_little_memory_is_an_error_with_both_numbers(wanted, free, remedy):
    with pytest.raises(EngineError) as raised:
        choose_memory_profile("qwen-edit", free, wanted)
    assert raised.value.code == "engine_load_failed"
    needed, found = map(float, re.findall(r"([\d.]+) GB", raised.value.message))
    assert found == free / 1e9 < needed
    assert raised.value.message.endswith(f"{remedy}.")


@pytest.mark.parametrize("engine", ["toon", "null"])
def test_a_small_engine_fits_everywhere(engine):
    assert choose_memory_profile(engine, 0, "offload") is FULL
