"""The export: a checkpoint of parts that belong together, or none."""

import shutil

import pytest
import torch
from training.toon.denoiser import Denoiser
from training.toon.encoders import build_image_encoder, build_text_encoder, save_image_encoder
from training.toon.export import export
from training.toon.lessons import Lessons
from training.toon.tokenizer import make_tokenizer
from training.toon.train_denoiser import save_networks

from understudy.engines.checkpoint import DETECTOR_FOLDER, LIKENESS_FILE, describe_toon
from understudy.engines.toon_autoencoder import ToonAutoencoder
from understudy.engines.toon_detector import ToonDetector


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of a model in the folders that trainings give them."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    lessons = Lessons(ToonAutoencoder(), tokenizer, seed=0, device=torch.device("cpu"))
    denoiser = Denoiser(build_text_encoder(tokenizer), build_image_encoder(layers=2))
    save_networks(denoiser, lessons, folder / "denoiser")
    torch.nn.init.normal_(denoiser.image_encoder.visual_projection.weight)
    save_image_encoder(denoiser.image_encoder, folder / "identity")
    (folder / "identity" / LIKENESS_FILE).write_text('{"floor": 0.25}')
    torch.nn.init.zeros_(lessons.autoencoder.decoder.leave.bias)
    lessons.autoencoder.save_pretrained(folder / "decoder")
    ToonDetector().half().save_pretrained(folder / "detector")
    return {name: folder / name for name in ("denoiser", "decoder", "identity", "detector")}


def put_together(parts, folder, **changes):
    found = parts | changes
    export(found["denoiser"], found["decoder"], found["identity"], found["detector"], folder)


def test_a_checkpoint_has_all_its_parts_and_everybody_may_read_it(parts, tmp_path):
    put_together(parts, tmp_path / "checkpoint")
    folder = tmp_path / "checkpoint"
    for name in (
        "unet",
        "controlnet",
        "vae",
        "text_encoder_2",
        "image_encoder",
        DETECTOR_FOLDER,
        "ip_adapter",
    ):
        assert list((folder / name).glob("*.safetensors")), name
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert max(sizes) < 15_000_000
    assert sum(sizes) < 40_000_000
    assert describe_toon(folder, "1").profile.likeness_floor == 0.25
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (folder, *folder.rglob("*")))
    assert str(tmp_path.parent) not in "".join(path.read_text() for path in folder.rglob("*.json"))


def test_parts_of_other_trainings_are_refused(parts, tmp_path):
    torch.manual_seed(1)
    save_image_encoder(build_image_encoder(layers=2), tmp_path / "identity")
    with pytest.raises(ValueError, match="train identities anew"):
        put_together(parts, tmp_path / "checkpoint", identity=tmp_path / "identity")
    ToonAutoencoder().save_pretrained(tmp_path / "decoder")
    with pytest.raises(ValueError, match="does not decode"):
        put_together(parts, tmp_path / "checkpoint", decoder=tmp_path / "decoder")
    with pytest.raises(ValueError, match="no detector"):
        put_together(parts, tmp_path / "checkpoint", detector=tmp_path / "nowhere")
    assert not (tmp_path / "checkpoint").exists()


def test_one_that_is_too_large_is_not_written(parts, tmp_path):
    shutil.copytree(parts["detector"], tmp_path / "detector")
    (tmp_path / "detector" / "model.bin").write_bytes(bytes(15_000_001))
    with pytest.raises(ValueError, match=r"model\.bin has 15000001 bytes"):
        put_together(parts, tmp_path / "checkpoint", detector=tmp_path / "detector")
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]
