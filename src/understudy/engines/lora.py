"""LoRAs added to a pipeline's weights (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

from pathlib import Path

from diffusers import DiffusionPipeline


def fuse_lora(pipeline: DiffusionPipeline, file: Path, weight: float) -> None:
    """Add the LoRA of a safetensors file to the weights; it costs a drawing nothing.

    Raises:
        ValueError: it has nothing for this model, or something that does not fit.
    """
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
    if not pipeline.get_active_adapters():
        raise ValueError("the LoRA has nothing for this model")
    pipeline.fuse_lora(lora_scale=weight)
    pipeline.unload_lora_weights()
