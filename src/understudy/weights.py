"""Which weights an engine needs by the settings, at which commit, and where they lie on this machine.

A place of weights is a folder or an id of the hub (`owner/name`). What the hub gives lies in its own cache
(`HF_HUB_CACHE`, huggingface.co/docs/huggingface_hub/guides/manage-cache), which services may share; which
commit of a repository a service draws with stands in its own data folder, so that one that moves on
changes no other's pictures. Nothing here asks the network, and no framework is imported.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UnderstudyError

if TYPE_CHECKING:
    from .settings import Lora, Settings

KLEIN_MODELS = {
    "distilled": "black-forest-labs/FLUX.2-klein-4B",
    "base": "black-forest-labs/FLUX.2-klein-base-4B",
}

PINNED = {
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "xinsir/controlnet-openpose-sdxl-1.0": "23f966cd5cfdd3f7729c903e243d87152162d2b7",
    "h94/IP-Adapter": "018e402774aeeddd60609b4ecdb7e298259dc729",
    "madebyollin/sdxl-vae-fp16-fix": "207b116dae70ace3637169f1ddd2434b91b3a8cd",
    "ByteDance/Hyper-SD": "bc08d970a87c74c71209491d64e3525845698863",
    "ByteDance/SDXL-Lightning": "c9a24f48e1c025556787b0c58dd67a091ece2e44",
    "Qwen/Qwen-Image-Edit-2511": "6f3ccc0b56e431dc6a0c2b2039706d7d26f22cb9",
    "lightx2v/Qwen-Image-Edit-2511-Lightning": "d74eba145674fd7e31b949324e148e21e7118abd",
    "black-forest-labs/FLUX.2-klein-4B": "e7b7dc27f91deacad38e78976d1f2b499d76a294",
    "black-forest-labs/FLUX.2-klein-base-4B": "a3b4f4849157f664bdbc776fd7453c2783562f4d",
    "Falconsai/nsfw_image_detection": "96cb0d0342c7afb80cab76ecc58b265fa44da256",
    "Tau-J/RTMPose": "cd4d7095f5cfc9cfc4f46289bee91ea4a1e1d9fd",
}
"""The commit of a repository whose revision no setting names; others are at what `main` was when fetched."""

RECORD = "weights.json"
"""The file in a data folder that tells which commit a branch or tag was when it was fetched."""

ABOUT_BYTES = {
    "stabilityai/stable-diffusion-xl-base-1.0": 6_774_000_000,
    "xinsir/controlnet-openpose-sdxl-1.0": 2_502_000_000,
    "h94/IP-Adapter": 4_223_000_000,
    "madebyollin/sdxl-vae-fp16-fix": 335_000_000,
    "ByteDance/Hyper-SD": 787_000_000,
    "ByteDance/SDXL-Lightning": 394_000_000,
    "Qwen/Qwen-Image-Edit-2511": 57_720_000_000,
    "black-forest-labs/FLUX.2-klein-4B": 15_969_000_000,
    "black-forest-labs/FLUX.2-klein-base-4B": 15_969_000_000,
    "Falconsai/nsfw_image_detection": 343_000_000,
    "Tau-J/RTMPose": 307_000_000,
}
"""About how much is fetched of a repository by the default settings, as the commits above have it."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NETWORK = re.compile(
    r"(?:diffusion_pytorch_model|model)(?P<half>\.fp16)?(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?\.safetensors"
)
"""A network's weights as diffusers and transformers name them, halved and in shards or not."""
_INDEX = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?P<half>\.fp16)?\.json")


class WeightsMissing(UnderstudyError):
    """Weights are not where they should be."""

    default_code = "engine_load_failed"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that an engine loads from one place.

    `setting` names the place, which is a folder or a hub id. `revision` is a commit, a tag or a branch of
    the hub id. `networks` are the folders, "" for the place itself, in which a configuration and weights
    lie; `files` are patterns (fnmatch), for each of which there must be a file.
    """

    name: str
    engine: str
    setting: str
    place: str
    revision: str
    networks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that names the place."""
        return f"UNDERSTUDY_{self.setting.upper()}"

    @property
    def names_folder(self) -> bool:
        """Whether the place is a folder, or is written as one and not as a hub id."""
        written = self.place.startswith((".", "~")) or Path(self.place).is_absolute()
        return written or Path(self.place).is_dir()

    @property
    def about_bytes(self) -> int | None:
        """About how much is fetched; None where that is not known before the hub is asked."""
        return ABOUT_BYTES.get(self.place)

    def choose_files(self, paths: Iterable[str]) -> list[str]:
        """Those files of a repository that are loaded, by their paths in it, in their order.

        Weights are safetensors files alone. Where every network has its weights in half precision, those
        are taken: they are what a GPU draws with, and half as large.
        """
        paths = list(paths)
        weights = {path: found for path in paths if (found := self._match_network(path))}
        full = {folder for folder, halved in weights.values() if not halved}
        half = {folder for folder, halved in weights.values() if halved}
        halved = set(self.networks) <= half or not full
        return [
            path
            for path in paths
            if (path in weights and weights[path][1] == halved)
            or any(path == _join(folder, "config.json") for folder in self.networks)
            or any(fnmatch(path, pattern) for pattern in self.files)
        ]

    def find_missing(self, paths: Iterable[str]) -> list[str]:
        """What is not among the files of a place, as paths or patterns; empty when it is whole."""
        chosen = self.choose_files(paths)
        missing = [pattern for pattern in self.files if not any(fnmatch(path, pattern) for path in chosen)]
        for folder in self.networks:
            if _join(folder, "config.json") not in chosen:
                missing.append(_join(folder, "config.json"))
            names = [Path(path).name for path in chosen if _parent(path) == folder]
            found = [match for name in names if (match := _NETWORK.fullmatch(name))]
            if not found:
                missing.append(_join(folder, "*.safetensors"))
            there = {int(match["shard"]) for match in found if match["shard"]}
            shards = max((int(match["shards"]) for match in found if match["shards"]), default=0)
            missing += [
                _join(folder, f"*-{number:05}-of-{shards:05}.safetensors")
                for number in range(1, shards + 1)
                if number not in there
            ]
        return missing

    def _match_network(self, path: str) -> tuple[str, bool] | None:
        """The network whose weights, or whose list of shards, a file is, and whether in half precision."""
        folder, name = _parent(path), path.rpartition("/")[2]
        match = _NETWORK.fullmatch(name) or _INDEX.fullmatch(name)
        return (folder, match["half"] is not None) if match and folder in self.networks else None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a part lies on this machine: in `folder`, of `commit` where it is of the hub; None where it
    does not. `missing` tells what it lacks there.
    """

    part: Part
    folder: Path | None
    commit: str | None
    missing: tuple[str, ...]

    @property
    def state(self) -> str:
        """`whole`, `part` or `nothing`."""
        if self.folder is None:
            return "nothing"
        return "part" if self.missing else "whole"


POSE = "pose"
"""Beside the engines: what finds poses in pictures, for any of them."""


def list_parts(settings: Settings, engine: str) -> list[Part]:
    """What an engine loads by the settings, the picture classifier with it where pictures are judged;
    or what `POSE` does.

    An engine whose weights are installed with it has none.
    """
    if engine == POSE:
        files = (settings.pose_person_model, settings.pose_model)
        return [_describe(settings, "pose_detector", name="pose detector", engine=POSE, files=files)]
    lists = {"sdxl": _list_sdxl, "qwen-edit": _list_qwen_edit, "flux2-klein": _list_flux2_klein}
    parts = lists[engine](settings) if engine in lists else []
    if settings.block_pictures:
        parts.append(describe_classifier(settings, engine))
    return parts


def describe_classifier(settings: Settings, engine: str) -> Part:
    """The classifier that judges pictures."""
    return _describe(
        settings,
        "classifier_model",
        name="picture classifier",
        engine=engine,
        networks=("",),
        files=("preprocessor_config.json",),
    )


def _list_sdxl(settings: Settings) -> list[Part]:
    describe = partial(_describe, settings, engine="sdxl")
    encoder = settings.sdxl_ip_adapter_encoder
    adapters = filter(None, (settings.sdxl_ip_adapter_weights, settings.sdxl_ip_adapter_face_weights))
    networks = ["text_encoder", "text_encoder_2", "unet"]
    files = ["model_index.json", "scheduler/*.json", "tokenizer/*", "tokenizer_2/*"]
    if not settings.sdxl_vae:
        networks.append("vae")
    if not encoder:
        networks.append("image_encoder")
        files.append("feature_extractor/*.json")
    parts = [
        describe("sdxl_model", name="model", networks=tuple(networks), files=tuple(files)),
        describe("sdxl_controlnet", name="ControlNet", networks=("",)),
        describe(
            "sdxl_ip_adapter",
            name="IP-Adapter",
            networks=(encoder,) if encoder else (),
            files=tuple(_join(settings.sdxl_ip_adapter_subfolder, weights) for weights in adapters),
        ),
    ]
    if settings.sdxl_vae:
        parts.append(describe("sdxl_vae", name="VAE", networks=("",)))
    return [*parts, *(_describe_lora(lora) for lora in settings.all_sdxl_loras if not _is_file(lora.place))]


def _describe_lora(lora: Lora) -> Part:
    return Part(
        name="LoRA",
        engine="sdxl",
        setting=lora.setting,
        place=lora.place,
        revision=PINNED.get(lora.place, "main"),
        files=(lora.file or "*.safetensors",),
    )


def _is_file(place: str) -> bool:
    return Path(place).expanduser().is_file()


def _list_qwen_edit(settings: Settings) -> list[Part]:
    describe = partial(_describe, settings, engine="qwen-edit")
    parts = [
        describe(
            "qwen_edit_model",
            name="model",
            networks=("text_encoder", "transformer", "vae"),
            files=("model_index.json", "scheduler/*.json", "tokenizer/*", "processor/*"),
        )
    ]
    if settings.qwen_edit_lora:
        parts.append(describe("qwen_edit_lora", name="LoRA", files=(settings.qwen_edit_lora_weights,)))
    return parts


def _list_flux2_klein(settings: Settings) -> list[Part]:
    return [
        _describe(
            settings,
            "flux2_klein_model",
            name="model",
            engine="flux2-klein",
            place=settings.flux2_klein_model or KLEIN_MODELS[settings.flux2_klein_preset],
            networks=("text_encoder", "transformer", "vae"),
            files=("model_index.json", "scheduler/*.json", "tokenizer/*"),
        )
    ]


def _describe(
    settings: Settings,
    setting: str,
    *,
    name: str,
    engine: str,
    place: str | None = None,
    networks: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
) -> Part:
    """A part whose place a setting names, and whose revision another beside it."""
    place = place or getattr(settings, setting)
    revision = getattr(settings, f"{setting.removesuffix('_model')}_revision") or PINNED.get(place, "main")
    return Part(
        name=name,
        engine=engine,
        setting=setting,
        place=place,
        revision=revision,
        networks=networks,
        files=files,
    )


def find_part(settings: Settings, part: Part) -> Found:
    """Where a part lies on this machine, whole or not."""
    if part.names_folder:
        folder = Path(part.place).expanduser()
        return _look(part, folder, None)
    commit = find_commit(settings.data_dir, part)
    return _look(part, find_cache(part.place) / "snapshots" / commit if commit else None, commit)


def find_folder(settings: Settings, setting: str, engine: str) -> Path:
    """The folder from which the part is loaded that a setting names: the one way from settings to weights.

    A folder is given as it is; whoever loads from it says what it lacks.

    Raises:
        WeightsMissing: it is not on this machine, or not whole, at the commit that the service draws with.
    """
    parts = [*list_parts(settings, engine), describe_classifier(settings, engine)]
    return _find_folder(settings, next(part for part in parts if part.setting == setting))


def find_lora(settings: Settings, lora: Lora) -> Path:
    """The file of a LoRA.

    Raises:
        WeightsMissing: it is not on this machine, or there is a choice of several.
    """
    if _is_file(lora.place):
        return Path(lora.place).expanduser()
    part = _describe_lora(lora)
    files = sorted(_find_folder(settings, part).glob(part.files[0]))
    if len(files) != 1:
        number = f"{len(files)} safetensors files" if files else "no safetensors file"
        raise WeightsMissing(f"The LoRA {lora.place!r} ({part.variable}) has {number}; name one file.")
    return files[0]


def _find_folder(settings: Settings, part: Part) -> Path:
    found = find_part(settings, part)
    if part.names_folder:
        if found.folder is None:
            raise WeightsMissing(f"{part.variable} names a folder that is not there.")
        return found.folder
    if found.folder is None or found.missing:
        # Whoever sent a job reads it: it names no path of this machine.
        lacks = f"lacks {found.missing[0]}" if found.folder else "is not on this machine"
        raise WeightsMissing(
            f"The {part.name} of {part.variable} {lacks}; run `understudy fetch {part.engine}` on it, "
            "or set it to a folder."
        )
    return found.folder


def find_cache(repository: str) -> Path:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def find_commit(data_dir: Path, part: Part) -> str | None:
    """The commit that a part of the hub is loaded at; None while none was fetched of its branch or tag."""
    if is_commit(part.revision):
        return part.revision
    return read_record(data_dir).get(f"{part.place}@{part.revision}")


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never changes, and no branch or tag."""
    return _COMMIT.fullmatch(revision) is not None


def read_record(data_dir: Path) -> dict[str, str]:
    """The commits that were fetched for a data folder, by `owner/name@branch`.

    Raises:
        WeightsMissing: the record is damaged.
    """
    try:
        record = json.loads((data_dir / RECORD).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not all(
        isinstance(commit, str) and is_commit(commit) for commit in record.values()
    ):
        raise WeightsMissing(
            f"{str(data_dir / RECORD)!r} is damaged; delete it, and run `understudy fetch` again."
        )
    return record


def record_commit(data_dir: Path, part: Part, commit: str) -> None:
    """Have a part loaded at a commit from now on, where its revision is a branch or a tag."""
    if is_commit(part.revision):
        return
    record = read_record(data_dir) | {f"{part.place}@{part.revision}": commit}
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=f"{RECORD}.", delete=False) as file:
        json.dump(record, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, data_dir / RECORD)


def _look(part: Part, folder: Path | None, commit: str | None) -> Found:
    if folder is None or not folder.is_dir():
        return Found(part=part, folder=None, commit=commit, missing=())
    # Only where something may lie that is loaded: what a user calls a folder may be a whole disk.
    inside = {*part.networks, *map(_parent, part.files)}
    paths = [
        _join(name, file.name)
        for name in inside
        if (folder / name).is_dir()
        for file in (folder / name).iterdir()
        if file.is_file()
    ]
    return Found(part=part, folder=folder, commit=commit, missing=tuple(part.find_missing(sorted(paths))))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
