"""What no schema can say of a request: Schemathesis' valid bodies get real pictures and poses.

The picture is the file that `UNDERSTUDY_TEST_PICTURE` names.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import schemathesis

PICTURE = Path(os.environ["UNDERSTUDY_TEST_PICTURE"]).read_bytes()
DATA_URI = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
POSE = "wave"


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Make a body that is valid by the schema one that is valid."""
    if case.meta is not None and case.meta.generation.mode.is_positive and case.headers:
        # No two requests are alike, and a key is for one.
        case.headers.pop("Idempotency-Key", None)
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    form = case.media_type == "multipart/form-data"
    body: dict[str, Any] = case.body
    for name in ("ip_image", "input_image"):
        if body.get(name) is not None:
            picture = PICTURE if form else DATA_URI
            body[name] = [picture] * len(body[name]) if isinstance(body[name], list) else picture
    if body.get("webhook_url") is not None:
        body["webhook_url"] = "http://127.0.0.1:9/"
    if "data_urls" in body:
        body["data_urls"] = [DATA_URI] * len(body["data_urls"])
    if isinstance(body.get("pose"), str):
        body["pose"] = POSE
    if body.get("poses") is not None:
        poses = [pose if isinstance(pose, list) else POSE for pose in body["poses"]]
        body["poses"] = json.dumps([POSE]) if form else poses
    # One of the three says the pose.
    for name in [name for name in ("pose", "poses", "input_image") if body.get(name) is not None][1:]:
        del body[name]
    if not (body.get("prompt") or "x").strip():
        body["prompt"] = "a hero"
    # Else Schemathesis looks at the body again, and calls every one with bytes in it invalid.
    case._record_starting_state()
