"""The embedded model's weights: a folder in the standard diffusers layout, and where it is.

This package knows nothing of torch or of the service; it only carries files.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.3.1"


def checkpoint_path() -> Path:
    """The folder that holds `model_index.json` and a folder for each network."""
    return Path(__file__).resolve().parent / "checkpoint"
