"""What a generation is asked with: the only place that knows a parameter's name.

Range, default and words of each parameter stand here once; the API, the OpenAPI page,
the SDK, the command line and the studio's form are all made from this model.
This file knows nothing of pictures, poses or engines: a picture is still the text that
names it, a pose name is not yet looked up.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import InvalidRequest

MAX_SEED = 2**53 - 1
"""The largest seed: the largest integer that JavaScript holds exactly."""

MAX_PICTURES = 24
"""The most pictures one request may ask for."""

DEFAULT_SEED = 4898558797
"""The reference page's own seed; it needs more than 32 bits."""

PICTURE_FIELDS = ("ip_image", "input_image")
"""The parameters whose value is a picture."""

CHARACTER_PREFIX = "character:"
"""What stands before a saved character's name in place of a picture."""

LONGEST_PROMPT = 2000
"""The most characters of a prompt."""


def _refuse_bool(value: Any) -> Any:
    # bool is an int to Python, but `steps: true` is a mistake, not one step.
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


def _strip(value: Any) -> Any:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("it has a NUL character in it")
    return value.strip() if isinstance(value, str) else value


def _check_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or any(character.isspace() for character in text):
        raise ValueError("expected an http(s) URL without a user name or password")
    return text


Integer = Annotated[int, BeforeValidator(_refuse_bool)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]
Strength = Annotated[float, Field(ge=0, le=1.5, allow_inf_nan=False), BeforeValidator(_refuse_bool)]
Text = Annotated[str, BeforeValidator(_strip)]
Picture = Text
Coordinate = Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)]
Keypoint = Annotated[list[Coordinate], Field(min_length=2, max_length=3)]
Keypoints = Annotated[
    list[Keypoint | None],
    Field(
        min_length=18,
        max_length=18,
        title="18 keypoints",
        description="18 OpenPose (COCO) keypoints, each [x, y], [x, y, confidence] or null; "
        "x is a fraction of the picture's width, y of its height, from the top left.",
    ),
]
PoseName = Annotated[str, Field(min_length=1, max_length=64, title="Name of a pose")]
Pose = PoseName | Keypoints
WebhookUrl = Annotated[str, BeforeValidator(_strip), AfterValidator(_check_url)]


class Parameters(BaseModel):
    """The parameters of one request, validated.

    Field order is the order in which people see them. `json_schema_extra` carries what a
    form needs: `widget` (how it is edited) and `advanced` (hidden until asked for).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ip_image: Picture = Field(
        min_length=1,
        title="Character",
        description="Input Character reference image: an http(s) URL, a data URI, bare base64, "
        "an uploaded file, or `character:<name>` for a saved character.",
        json_schema_extra={"format": "uri", "widget": "picture"},
    )
    prompt: Text = Field(
        default="",
        max_length=LONGEST_PROMPT,
        title="Prompt",
        description="Text prompt for image generation, 1 to 2000 characters; may be left out with a saved "
        "character that has one.",
        json_schema_extra={"widget": "text"},
    )
    input_image: Picture | None = Field(
        default=None,
        title="Pose reference",
        description="Input Pose reference image: a picture of a person or a character, or an "
        "OpenPose skeleton drawing, which is used as it is.",
        json_schema_extra={"format": "uri", "widget": "picture"},
    )
    pose: Pose | None = Field(
        default=None,
        title="Pose",
        description="The pose instead of a picture of it: a name from the library or 18 keypoints. "
        "Not together with `input_image` or `poses`.",
        json_schema_extra={"widget": "pose"},
    )
    poses: Annotated[list[Pose], Field(min_length=1, max_length=MAX_PICTURES)] | None = Field(
        default=None,
        title="Pose sheet",
        description="A whole sheet: 1 to 24 poses, one picture each, all with the same seed.",
        json_schema_extra={"widget": "poses", "advanced": True},
    )
    negative_prompt: Text = Field(
        default="",
        max_length=LONGEST_PROMPT,
        title="Negative prompt",
        description="Negative prompt to avoid certain elements; if it is left out, a saved character's own.",
        json_schema_extra={"widget": "text"},
    )
    guidance_scale: Number = Field(
        default=3.0,
        ge=1,
        le=15,
        allow_inf_nan=False,
        title="Guidance scale",
        description="Scale for classifier-free guidance.",
    )
    steps: Integer = Field(default=10, ge=1, le=70, title="Steps", description="Number of denoising steps.")
    width: Integer = Field(
        default=1024, ge=256, le=2048, title="Width", description="Width of the output image in pixels."
    )
    height: Integer = Field(
        default=1024, ge=256, le=2048, title="Height", description="Height of the output image in pixels."
    )
    seed: Integer = Field(
        default=DEFAULT_SEED,
        ge=-1,
        le=MAX_SEED,
        title="Seed",
        description="Seed for random number generation; -1 draws one and the answer tells which.",
    )
    num_images: Integer = Field(
        default=1,
        ge=1,
        le=8,
        title="Pictures",
        description="Pictures of each pose; their seeds count up from `seed`.",
        json_schema_extra={"advanced": True},
    )
    candidates: Integer = Field(
        default=1,
        ge=1,
        le=8,
        title="Candidates",
        description="Draw each picture this many times and keep the one with the best score.",
        json_schema_extra={"advanced": True},
    )
    ip_scale: Strength | None = Field(
        default=None,
        title="Reference strength",
        description="How strongly the character reference acts; null takes the engine's own value.",
        json_schema_extra={"advanced": True},
    )
    pose_scale: Strength | None = Field(
        default=None,
        title="Pose strength",
        description="How strongly the pose acts; null takes the engine's own value.",
        json_schema_extra={"advanced": True},
    )
    output_format: Literal["png", "jpeg", "webp"] = Field(
        default="png",
        title="File format",
        description="File format of the pictures.",
        json_schema_extra={"advanced": True},
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        max_length=2000,
        title="Webhook",
        description="An http(s) URL that is sent the result when the request has ended, signed.",
        json_schema_extra={"format": "uri", "advanced": True},
    )

    @property
    def character(self) -> str | None:
        """The name of the saved character that is the reference; None when it is a picture."""
        named = self.ip_image.startswith(CHARACTER_PREFIX)
        return self.ip_image.removeprefix(CHARACTER_PREFIX) if named else None

    @property
    def asked_poses(self) -> list[Pose | None]:
        """The poses asked for, one for each row of the sheet; `[None]` when none is named."""
        return list(self.poses) if self.poses is not None else [self.pose]

    @property
    def picture_count(self) -> int:
        """How many pictures the answer has: what is billed."""
        return len(self.asked_poses) * self.num_images


def parse_parameters(raw: Mapping[str, Any]) -> tuple[Parameters, list[str]]:
    """Validate what a client sent; return the parameters and the warnings.

    Unknown fields are accepted and named in a warning. `null` means "not given" wherever a
    parameter is optional.

    A request for a saved character may have no prompt, which is empty then: the character's own.

    Raises:
        InvalidRequest: a parameter is missing or out of range (`field` names it), or two
            exclude each other.
    """
    known = Parameters.model_fields
    given = {name: value for name, value in raw.items() if name in known and value is not None}
    try:
        parameters = Parameters.model_validate(given)
    except ValidationError as error:
        raise _explain(error) from None
    _check_together(parameters)
    return parameters, name_unknown(raw, known)


def name_unknown(raw: Iterable[str], known: Container[str], kind: str = "parameter") -> list[str]:
    """A warning for each of the first 20 names that nothing knows."""
    unknown = [str(name) for name in raw if name not in known]
    return [f"Unknown {kind} {name[:64]!r} was ignored." for name in unknown[:20]]


def parameters_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the parameters, self-contained; unknown fields are allowed."""
    schema = Parameters.model_json_schema()
    # Of a picture alone nothing tells what to draw.
    schema["required"].append("prompt")
    del schema["properties"]["prompt"]["default"]
    schema["properties"]["prompt"]["minLength"] = 1
    schema["description"] = "The parameters of one request; unknown ones are accepted and named in warnings."
    schema["additionalProperties"] = True
    schema.setdefault("examples", [_EXAMPLE])
    return schema


_EXAMPLE = {
    "prompt": "young man,beard, light skin, round face, large brown eyes and wavy brown hair, "
    "wearing a white t-shirt, red plaid shirt, blue jeans, and brown boots",
    "ip_image": "https://segmind-sd-models.s3.amazonaws.com/display_images/def_ip_image.png",
    "steps": 10,
    "guidance_scale": 3,
    "width": 1024,
    "height": 1024,
    "seed": DEFAULT_SEED,
}
"""The reference page's own payload."""


def _check_together(parameters: Parameters) -> None:
    if not parameters.prompt and parameters.character is None:
        if "prompt" not in parameters.model_fields_set:
            raise _missing("prompt")
        raise InvalidRequest(
            "The parameter prompt is not valid: it is empty.", code="invalid_parameter", field="prompt"
        )
    ways = [name for name in ("input_image", "pose", "poses") if getattr(parameters, name) is not None]
    if len(ways) > 1:
        raise InvalidRequest(
            f"Give the pose one way only: {' and '.join(ways)} were given together.",
            code="invalid_parameter",
            field=ways[1],
        )
    if parameters.picture_count > MAX_PICTURES:
        raise InvalidRequest(
            f"poses times num_images makes {parameters.picture_count} pictures; "
            f"ask for at most {MAX_PICTURES} in one request.",
            code="invalid_parameter",
            field="num_images",
        )


def _missing(field: str | None) -> InvalidRequest:
    return InvalidRequest(f"The parameter {field} is required.", code="missing_parameter", field=field)


def _explain(error: ValidationError) -> InvalidRequest:
    """One sentence for the first thing that is wrong; never echoes the value (it may be a picture)."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    location = first["loc"]
    field = str(location[0]) if location else None
    if first["type"] == "missing":
        return _missing(field)
    if field in ("pose", "poses"):
        reason = "expected the name of a pose or 18 keypoints [x, y] with fractions of the picture"
        if field == "poses":
            reason = f"expected 1 to {MAX_PICTURES} poses, each a name or 18 keypoints [x, y]"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[:1].lower() + reason[1:]
    return InvalidRequest(
        f"The parameter {field} is not valid: {reason}.", code="invalid_parameter", field=field
    )
