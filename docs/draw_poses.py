"""Make the library of named poses, and the page that shows it, out of the pose table.

python docs/draw_poses.py           writes poses.json, docs/poses.md and docs/poses.png
python docs/draw_poses.py --check   fails when one of them is not what the table makes
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "src"))

from understudy.pose import NamedPose, draw_pose_thumbnail, fit_skeleton, mirror_skeleton  # noqa: E402
from understudy.pose.rig import pose_rig  # noqa: E402
from understudy.pose.table import ENTRIES  # noqa: E402

LIBRARY = DOCS.parent / "src/understudy/pose/poses.json"
PAGE, SHEET = DOCS / "poses.md", DOCS / "poses.png"

CELL, CAPTION, COLUMNS = 150, 24, 10


def make_library() -> list[NamedPose]:
    """The table's poses, fitted to the unit square, four decimals."""
    fitted = {}
    for entry in ENTRIES:
        if entry.rig is not None:
            fitted[entry.name] = fit_skeleton(pose_rig(entry.rig), 1, 1).round(4)
        else:
            fitted[entry.name] = mirror_skeleton(fitted[entry.mirror_of], 1).round(4)
    return [
        NamedPose(
            name=entry.name,
            title=entry.name.replace("_", " ").capitalize(),
            category=entry.category,
            description=entry.description,
            keypoints=fitted[entry.name],
        )
        for entry in ENTRIES
    ]


def format_library(poses: list[NamedPose]) -> str:
    """The data file: one pose an object, its keypoints on one line, null for a hidden one."""
    blocks = []
    for pose in poses:
        fields = {
            "name": pose.name,
            "title": pose.title,
            "category": pose.category,
            "description": pose.description,
            "keypoints": [[x, y] if seen else None for x, y, seen in pose.keypoints.tolist()],
        }
        lines = ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items())
        blocks.append(f"  {{\n{lines}\n  }}")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def draw_sheet(poses: list[NamedPose]) -> Image.Image:
    """All poses on one picture, each with its name."""
    rows = -(-len(poses) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + CAPTION)), (12, 12, 16))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, pose in enumerate(poses):
        x, y = index % COLUMNS * CELL, index // COLUMNS * (CELL + CAPTION)
        sheet.paste(draw_pose_thumbnail(pose, CELL - 6), (x + 3, y + 3))
        pen.text((x + CELL / 2, y + CELL + 8), pose.name, fill=(225, 225, 232), font=font, anchor="mm")
    return sheet


def format_page(poses: list[NamedPose]) -> str:
    """The page: the picture, then each category's poses in words."""
    lines = [
        "# Named poses",
        "",
        f"`pose` takes the name of one of these {len(poses)} poses, beside the character and the prompt;",
        "`poses` takes several. Case does not matter, and `-` or a space is as good as `_`.",
        "`understudy poses` lists them too. A pose is fitted to the picture's size, keeping its proportions.",
        "",
        "![All named poses, each drawn as an OpenPose skeleton](poses.png)",
        "",
        "Left and right in a name are the picture's. A pose can also come",
        "[out of a picture](pose_pictures.md).",
    ]
    for category in dict.fromkeys(pose.category for pose in poses):
        lines += ["", f"## {category.capitalize()}", "", "| name | what it shows |", "| --- | --- |"]
        lines += [f"| `{pose.name}` | {pose.description} |" for pose in poses if pose.category == category]
    lines += [
        "",
        "The poses are angles of a small rig (`pose/rig.py`, `pose/table.py`); `python docs/draw_poses.py`",
        "makes the library and this page from them.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the files, or check them; 1 when a check fails."""
    parser = argparse.ArgumentParser(description="Make the library of named poses and its page.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = parser.parse_args().check

    poses = make_library()
    texts = {LIBRARY: format_library(poses), PAGE: format_page(poses)}
    # Fonts and antialiasing differ a little between versions of Pillow: the picture carries what
    # it was made from, and that is compared.
    digest = hashlib.sha256(texts[LIBRARY].encode()).hexdigest()
    if not check:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        source = PngImagePlugin.PngInfo()
        source.add_text("poses", digest)
        sheet = draw_sheet(poses).quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        sheet.save(SHEET, optimize=True, pnginfo=source)
        return 0
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    if not SHEET.exists() or Image.open(SHEET).info.get("poses") != digest:
        stale.append(SHEET)
    for path in stale:
        print(f"{path.name} is not what the table makes: run python docs/draw_poses.py")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
