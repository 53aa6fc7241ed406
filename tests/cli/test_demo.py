"""`make demo`: its program run to the end, with the embedded model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageChops, ImageStat

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
NAMES = ["no-pose", "wave", "point", "run", "jump"]


@pytest.mark.slow
def test_the_demo_draws_five_pictures_and_leaves_nothing_behind(tmp_path):
    pictures, scratch = tmp_path / "pictures", tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(DEMO), str(pictures)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    assert sorted(file.stem for file in pictures.iterdir()) == sorted([*NAMES, "sheet"])
    drawn = set()
    for name in NAMES:
        with Image.open(pictures / f"{name}.png") as picture:
            assert picture.size == (1024, 1024)
            drawn.add(picture.tobytes())
    assert len(drawn) == len(NAMES)
    with Image.open(pictures / "sheet.png") as sheet:
        assert sheet.width > 6 * 208
        # After the character given come the named poses, and the picture without one is the last.
        bottom = sheet.height - 10 - 31
        for column, name in enumerate(["wave", "point", "run", "jump", "no-pose"], 1):
            left = 10 + column * (208 + 10)
            cell = sheet.crop((left, bottom - 208, left + 208, bottom)).convert("RGB")
            with Image.open(pictures / f"{name}.png") as picture:
                shown = picture.convert("RGB").resize(cell.size, Image.Resampling.LANCZOS)
            assert max(ImageStat.Stat(ImageChops.difference(cell, shown)).mean) < 2, name

    for name in NAMES:
        (row,) = [line for line in done.stdout.splitlines() if f"{name}.png" in line]
        assert "4898558797" in row
        assert len(re.findall(r"\d+\.\d\d s", row)) == 2
    assert "sheet.png" in done.stdout

    assert list(scratch.glob("understudy-*")) == []
    assert _find_processes(scratch) == []


def _find_processes(scratch: Path) -> list[psutil.Process]:
    """The processes whose folder for temporary files this is."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(scratch):
                found.append(process)
        except psutil.Error:
            continue
    return found
