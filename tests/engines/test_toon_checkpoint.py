"""The embedded checkpoint's files: whole, small enough, and free of anybody's paths."""

from __future__ import annotations

import json

import pytest
import understudy_toon

from understudy.engines import EngineError
from understudy.engines.checkpoint import DETECTOR_FOLDER, LIKENESS_FILE, describe_toon, load_detector

FOLDER = understudy_toon.checkpoint_path()


def test_it_is_a_folder_in_the_diffusers_layout():
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLControlNetPipeline"
    parts = {name for name, value in index.items() if isinstance(value, list) and value[0]}
    assert parts <= {path.name for path in FOLDER.iterdir()}
    assert (FOLDER / "ip_adapter" / "ip_adapter.safetensors").is_file()


def test_no_config_names_a_machine():
    for config in FOLDER.rglob("*.json"):
        if config.name != "tokenizer.json":
            fields = json.loads(config.read_text())
            assert not {"_name_or_path", "is_local"} & set(fields), config
            assert not [
                value for value in fields.values() if isinstance(value, str) and value.startswith("/")
            ]


def test_it_is_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert max(sizes) < 15_000_000
    assert sum(sizes) < 40_000_000


def test_parts_of_it_that_are_broken_are_told(tmp_path):
    with pytest.raises(EngineError, match="likeness floor could not be loaded; install understudy-toon anew"):
        describe_toon(tmp_path, "1")
    (tmp_path / LIKENESS_FILE).write_text('{"floor": 0.25}')
    checkpoint = describe_toon(tmp_path, "1")
    assert checkpoint.profile.likeness_floor == 0.25
    assert load_detector(checkpoint) is None
    (tmp_path / DETECTOR_FOLDER).mkdir()
    (tmp_path / DETECTOR_FOLDER / "config.json").write_text("{")
    with pytest.raises(EngineError, match="pose detector") as raised:
        load_detector(checkpoint)
    assert raised.value.code == "engine_load_failed"
