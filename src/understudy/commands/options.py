"""Options that several commands share: the settings, the service, a generation's parameters.

A parameter's name, range, default and words come out of `parameters.py`: a new parameter is an
option without a line here.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..catalog import ENGINES, list_slugs
from ..errors import InvalidRequest, ServiceError, UnderstudyError
from ..parameters import CHARACTER_PREFIX, PICTURE_FIELDS, Parameters, parse_parameters
from .files import find_file

if TYPE_CHECKING:
    from ..settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        readable=False,  # what cannot be read is told by the command, as what is wrong with it
        help="Folder of the database and the pictures (UNDERSTUDY_DATA_DIR); [b]data[/b] if not given.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="Key of the service; better set UNDERSTUDY_API_KEY, which nobody sees in the list of processes.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the service (UNDERSTUDY_BASE_URL); http://127.0.0.1:8000/v1 if not given.",
        show_default=False,
    ),
]

CLIENT_SETTINGS = {"UNDERSTUDY_API_KEY", "UNDERSTUDY_BASE_URL"}
"""What the SDK and the command line read beside the service's own settings."""

POSES_WORDS = " Names separated by commas, or JSON: a list of names and of keypoints."


Engine = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(ENGINES),
        help="What draws (UNDERSTUDY_ENGINE); [b]toon[/b] if not given.",
        show_default=False,
    ),
]

Model = Annotated[
    str,
    typer.Option(
        metavar="SLUG",
        autocompletion=list_slugs,
        help=f"Which model to ask; there can be {', '.join(list_slugs())}.",
    ),
]


def read_settings(**given: Any) -> Settings:
    """The settings of the environment, with those that were given in their place; None is not given.

    Raises:
        UnderstudyError: a setting has no valid value; the message names it, or the option.
    """
    from pydantic import ValidationError

    from ..settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        if given.get(name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise InvalidRequest(f"{option} is not valid: {reason[:1].lower()}{reason[1:]}.") from None
        raise UnderstudyError(
            f"The setting UNDERSTUDY_{name.upper()} is not valid: {reason[:1].lower()}{reason[1:]}.",
            code="invalid_setting",
        ) from None


def name_unknown_settings() -> list[str]:
    """A sentence for each `UNDERSTUDY_*` of the environment that is no setting."""
    from ..settings import Settings

    prefix = "UNDERSTUDY_"
    known = {name.upper() for name in Settings.model_fields} | {
        name.removeprefix(prefix) for name in CLIENT_SETTINGS
    }
    sentences = []
    for name in sorted(os.environ):
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own not in known:
            # What all names have in common makes none alike.
            near = difflib.get_close_matches(own, known, n=1, cutoff=0.75)
            guess = f"; did you mean {prefix}{near[0]}?" if near else "."
            sentences.append(f"{name} is no setting and was ignored{guess}")
    return sentences


@contextmanager
def explain_damage(data_dir: Path) -> Iterator[None]:
    """Turn what the database of a folder raises when it cannot be used into one sentence.

    Raises:
        ServiceError: it is damaged, locked or of a newer version (`data_dir_unusable`).
    """
    from alembic.util import CommandError
    from sqlalchemy.exc import DatabaseError, OperationalError

    try:
        yield
    except CommandError:
        words = "was made by another version; install that one or name another folder with --data-dir"
    except OperationalError as error:
        words = f"cannot be used ({error.orig}); name another folder with --data-dir"
    except DatabaseError as error:
        words = f"is damaged ({error.orig}); restore a backup or name another folder with --data-dir"
    else:
        return
    raise ServiceError(f"The database in {str(data_dir)!r} {words}.", code="data_dir_unusable")


def take_parameters(*, but: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each parameter of a generation, except those named in `but`.

    The command gets those that were given as its first argument, a dict. What is out of range
    raises InvalidRequest before anything is sent.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        schemas = Parameters.model_json_schema()["properties"]
        offered = [name for name in Parameters.model_fields if name not in but]

        @wraps(command)
        def run(**given: Any) -> None:
            raw = {name: given.pop(name) for name in offered}
            command(_check_parameters(raw), **given)

        keyword = inspect.Parameter.KEYWORD_ONLY
        asked = [_option(name, schemas[name]) for name in offered]
        parameters = [*asked, *(parameter.replace(kind=keyword) for parameter in own)]
        run.__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _option(name: str, schema: dict[str, Any]) -> inspect.Parameter:
    required = Parameters.model_fields[name].is_required()
    default = Parameters.model_fields[name].default
    words = schema["description"]
    if name in ("pose", "poses"):
        words += POSES_WORDS if name == "poses" else " Keypoints are given as JSON."
    kinds = [schema, *schema.get("anyOf", [])]
    if choices := next((kind["enum"] for kind in kinds if "enum" in kind), None):
        words += f" One of {', '.join(choices)}."
    for kind in kinds:
        # The limits of an optional number stand in the schema under Python's names for them.
        least, most = kind.get("minimum", kind.get("ge")), kind.get("maximum", kind.get("le"))
        if least is not None and most is not None:
            words += f" From {least:g} to {most:.17g}."
    numbers = {"integer": int, "number": float}
    value_type = next((numbers[kind["type"]] for kind in kinds if kind.get("type") in numbers), str)
    if not required and default not in (None, ""):
        words += f" Default: {default}."
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=words.replace("[", r"\["),
        show_default=False,
        rich_help_panel="More parameters" if schema.get("advanced") else "Parameters",
        metavar="FILE|URL" if name in PICTURE_FIELDS else None,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[value_type if required else value_type | None, option],
    )


def _check_parameters(raw: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in raw.items() if value is not None}
    for name in PICTURE_FIELDS:
        if name in given:
            check_picture(name, given[name])
    for name in ("pose", "poses"):
        if name in given:
            given[name] = read_poses(name, given[name])
    parse_parameters(given)
    return given


def check_picture(name: str, text: str) -> None:
    """Refuse what is neither a file nor an address: most often a file name with a typing error."""
    if text.lstrip().lower().startswith(("http://", "https://", "data:", CHARACTER_PREFIX)):
        return
    if find_file(text) is None:
        raise InvalidRequest(f"--{name.replace('_', '-')} names no file: {text!r} is not there.")


def read_poses(name: str, text: str) -> Any:
    """What --pose or --poses names: a name or keypoints, or a list of them.

    Raises:
        InvalidRequest: it begins like JSON but is none.
    """
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            raise InvalidRequest(
                f"--{name} begins like JSON but is none; give 18 keypoints [x, y]."
            ) from None
        return [listed] if name == "poses" and _is_one_pose(listed) else listed
    if name == "pose":
        return text.strip()
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_one_pose(listed: list[Any]) -> bool:
    """Whether a list is the keypoints of one pose and not a list of poses."""
    points = [point for point in listed if point is not None]
    return bool(points) and all(
        isinstance(point, list) and all(isinstance(part, int | float) for part in point) for point in points
    )
