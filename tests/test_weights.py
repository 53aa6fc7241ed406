"""Which files of a repository are loaded, what is missing of them, and at which commit they are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from understudy.settings import Settings
from understudy.weights import (
    ABOUT_BYTES,
    PINNED,
    Part,
    WeightsMissing,
    find_cache,
    find_folder,
    find_part,
    list_parts,
    read_record,
    record_commit,
)

ROOT = Path(__file__).parents[1]
OLD, NEW = "a" * 40, "b" * 40
ENGINES = ("sdxl", "qwen-edit", "flux2-klein")

_TREE = """
README.md sd_xl_base_1.0.safetensors model_index.json scheduler/scheduler_config.json
text_encoder/config.json text_encoder/flax_model.msgpack text_encoder/model.fp16.safetensors
text_encoder/model.onnx text_encoder/model.safetensors text_encoder/pytorch_model.bin
text_encoder_2/config.json text_encoder_2/model.fp16.safetensors text_encoder_2/model.safetensors
tokenizer/merges.txt tokenizer/vocab.json tokenizer_2/merges.txt tokenizer_2/vocab.json
unet/config.json unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.safetensors
unet/openvino_model.bin vae/config.json vae/diffusion_pytorch_model.fp16.safetensors
vae_1_0/diffusion_pytorch_model.fp16.safetensors vae/diffusion_pytorch_model.safetensors
"""
SDXL = _TREE.split()
"""What stabilityai/stable-diffusion-xl-base-1.0 has, in its main kinds."""


def part_of(setting: str, **settings: object) -> Part:
    settings = Settings(**settings)
    (part,) = [part for engine in ENGINES for part in list_parts(settings, engine) if part.setting == setting]
    return part


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """A hub's cache with two commits of a ControlNet, the newer of which is what its `main` names."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = find_cache("tiny/controlnet")
    for commit in (OLD, NEW):
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    return repository


def test_of_a_repository_only_what_is_loaded_is_chosen():
    part = part_of("sdxl_model")
    chosen = part.choose_files(SDXL)
    assert set(chosen) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(path for path in SDXL if path.startswith("tokenizer")),
        *(f"{folder}/config.json" for folder in ("text_encoder", "text_encoder_2", "unet")),
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    }
    assert part.find_missing(chosen) == []
    own_vae = part_of("sdxl_model", sdxl_vae="")
    assert set(own_vae.choose_files(SDXL)) - set(chosen) == {
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }


def test_halves_are_taken_of_all_networks_or_of_none():
    paths = [path for path in SDXL if path != "unet/diffusion_pytorch_model.fp16.safetensors"]
    assert not [path for path in part_of("sdxl_model").choose_files(paths) if ".fp16." in path]


def test_a_controlnet_has_one_file_of_weights():
    paths = [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model_twins.safetensors",
    ]
    assert part_of("sdxl_controlnet").choose_files(paths) == paths[:2]


def test_a_shard_that_is_not_there_is_missing():
    part = replace(part_of("flux2_klein_model"), networks=("transformer",), files=())
    shards = [f"transformer/diffusion_pytorch_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    index = "transformer/diffusion_pytorch_model.safetensors.index.json"
    paths = ["transformer/config.json", index, *shards]
    assert part.choose_files(paths) == paths
    assert part.find_missing(paths) == []
    assert part.find_missing([*paths[:3], shards[2]]) == ["transformer/*-00002-of-00003.safetensors"]
    assert part.find_missing(["transformer/config.json"]) == ["transformer/*.safetensors"]


def test_the_default_weights_of_every_engine_are_pinned():
    settings = Settings(block_pictures=True, qwen_edit_lora="lightx2v/Qwen-Image-Edit-2511-Lightning")
    presets = [settings.model_copy(update={"sdxl_preset": preset}) for preset in ("hyper", "lightning")]
    parts = [part for one in (settings, *presets) for engine in ENGINES for part in list_parts(one, engine)]
    assert {part.revision for part in parts} <= set(PINNED.values())
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in PINNED.values())
    assert set(ABOUT_BYTES) <= set(PINNED)


def test_the_pages_of_the_engines_name_what_there_is():
    pages = {page.name: page.read_text() for page in (ROOT / "docs" / "engines").glob("*.md")}
    assert {f"{engine}.md" for engine in ENGINES} <= set(pages)
    told = dict(re.findall(r"^\| \[(\S+/\S+)\]\(.*\) \| `(\w{40})` \|$", pages["README.md"], re.MULTILINE))
    assert told == PINNED
    names = {
        name.lower() for page in pages.values() for name in re.findall(r"UNDERSTUDY_([A-Z0-9_]+)\b", page)
    }
    assert names - {"api_key"} <= set(Settings.model_fields)


def test_a_branch_is_at_the_commit_that_was_fetched(cached, tmp_path):
    settings = Settings(data_dir=tmp_path / "data", sdxl_controlnet="tiny/controlnet")
    part = part_of("sdxl_controlnet", sdxl_controlnet="tiny/controlnet")
    assert find_part(settings, part).state == "nothing", "what another program fetched is not drawn with"
    with pytest.raises(WeightsMissing, match="understudy fetch sdxl"):
        find_folder(settings, "sdxl_controlnet", "sdxl")
    record_commit(settings.data_dir, part, OLD)
    assert find_folder(settings, "sdxl_controlnet", "sdxl") == cached / "snapshots" / OLD
    pinned = settings.model_copy(update={"sdxl_controlnet_revision": NEW})
    assert find_folder(pinned, "sdxl_controlnet", "sdxl") == cached / "snapshots" / NEW
    (cached / "snapshots" / OLD / "config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"lacks config\.json"):
        find_folder(settings, "sdxl_controlnet", "sdxl")


def test_each_data_folder_has_its_own_commits(cached, tmp_path):
    part = part_of("sdxl_controlnet", sdxl_controlnet="tiny/controlnet")
    for name, commit in (("one", OLD), ("two", NEW)):
        record_commit(tmp_path / name, part, commit)
        record_commit(tmp_path / name, replace(part, place="another/one"), OLD)
    for name, commit in (("one", OLD), ("two", NEW)):
        assert find_part(Settings(data_dir=tmp_path / name), part).commit == commit
        assert [file.name for file in (tmp_path / name).iterdir()] == ["weights.json"]


@pytest.mark.parametrize("words", ["", "[]", '{"a/b@main": "main"}'])
def test_a_record_that_is_damaged_is_told(tmp_path, words):
    (tmp_path / "weights.json").write_text(words)
    with pytest.raises(WeightsMissing, match=r"weights\.json.* is damaged"):
        read_record(tmp_path)


def test_a_folder_is_taken_as_it_is_and_told_what_it_lacks(tmp_path):
    settings = Settings(sdxl_controlnet=str(tmp_path))
    assert find_folder(settings, "sdxl_controlnet", "sdxl") == tmp_path
    (part,) = [part for part in list_parts(settings, "sdxl") if part.setting == "sdxl_controlnet"]
    assert find_part(settings, part).missing == ("config.json", "*.safetensors")
