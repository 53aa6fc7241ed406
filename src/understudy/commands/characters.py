"""`understudy characters`: the characters that a running service keeps for an account."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from ..errors import InvalidRequest
from .options import ApiKey, BaseUrl, Json, check_picture
from .service import open_client

Name = Annotated[str, typer.Argument(help="The character's name.")]
Prompt = Annotated[
    str | None,
    typer.Option(help="What requests that have no prompt are drawn with.", show_default=False),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(help="The same for the negative prompt.", show_default=False),
]

characters = typer.Typer(
    help="Save, show and change the characters of a running service; each is given as "
    "[b]--ip-image character:NAME[/b].",
    no_args_is_help=True,
)


@characters.command("list")
def list_characters(as_json: Json = False, api_key: ApiKey = None, base_url: BaseUrl = None) -> None:
    """List the account's characters."""
    with open_client(api_key, base_url) as client:
        found = client.characters()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.table import Table

    from .tables import format_time, print_table

    table = Table("Name", "Pictures", "Saved", "Prompt", "Negative prompt", box=None, pad_edge=False)
    for one in found:
        pictures = str(len(one["urls"]))
        table.add_row(
            one["name"], pictures, format_time(one["created_at"]), one["prompt"], one["negative_prompt"]
        )
    print_table(table)


@characters.command()
def show(name: Name, as_json: Json = False, api_key: ApiKey = None, base_url: BaseUrl = None) -> None:
    """Show a character: its prompts, and its pictures by number."""
    with open_client(api_key, base_url) as client:
        found = client.character(name)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"Prompt: {found['prompt']}")
    typer.echo(f"Negative prompt: {found['negative_prompt']}")
    for number, url in enumerate(found["urls"], 1):
        typer.echo(f"{number}  {url}")


@characters.command()
def save(
    name: Name,
    ip_image: Annotated[
        list[str],
        typer.Option(metavar="FILE|URL", help="Picture of it; several, up to 8, are used together."),
    ],
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = None,
    as_json: Json = False,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
) -> None:
    """Save a character under a name."""
    _check_pictures("ip_image", ip_image)
    with open_client(api_key, base_url) as client:
        _tell(client.save_character(name, ip_image, prompt or "", negative_prompt or ""), as_json)


@characters.command()
def update(
    name: Name,
    new_name: Annotated[
        str | None, typer.Option(help="What it is called from then on.", show_default=False)
    ] = None,
    ip_image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|URL", help="Pictures in place of those it has.", show_default=False),
    ] = None,
    add_ip_image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|URL", help="Picture beside those it has.", show_default=False),
    ] = None,
    remove_ip_image: Annotated[
        list[int] | None,
        typer.Option(metavar="NUMBER", help="Number of a picture, as `show` has it.", show_default=False),
    ] = None,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = None,
    as_json: Json = False,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
) -> None:
    """Change a character; what is not given stays as it is.

    Requests that were sent before are drawn with the pictures that it had then.
    """
    if ip_image and (add_ip_image or remove_ip_image):
        raise InvalidRequest(
            "--ip-image replaces all pictures: leave out --add-ip-image and --remove-ip-image."
        )
    _check_pictures("ip_image", ip_image or [])
    _check_pictures("add_ip_image", add_ip_image or [])
    fields: dict[str, Any] = {
        "new_name": new_name,
        "ip_image": ip_image or None,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
    }
    with open_client(api_key, base_url) as client:
        if add_ip_image or remove_ip_image:
            has = client.character(name)["urls"]
            fields["ip_image"] = [*_leave_out(has, remove_ip_image or []), *(add_ip_image or [])]
        if all(value is None for value in fields.values()):
            raise InvalidRequest(
                "Say what to change: --new-name, --ip-image, --prompt, ...; --help lists all."
            )
        _tell(client.update_character(name, **fields), as_json)


@characters.command()
def delete(name: Name, api_key: ApiKey = None, base_url: BaseUrl = None) -> None:
    """Delete a character; requests that were sent before are still drawn."""
    with open_client(api_key, base_url) as client:
        client.delete_character(name)
    typer.echo(f"Deleted {name!r}.")


def _check_pictures(name: str, pictures: list[str]) -> None:
    for picture in pictures:
        check_picture(name, picture)


def _leave_out(urls: list[str], numbers: list[int]) -> list[str]:
    """The pictures but for those of some numbers, which count from 1."""
    for number in numbers:
        if not 1 <= number <= len(urls):
            raise InvalidRequest(f"--remove-ip-image is from 1 to {len(urls)} here, not {number}.")
    return [url for number, url in enumerate(urls, 1) if number not in numbers]


def _tell(character: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(character, indent=2))
        return
    count = len(character["urls"])
    given = shlex.quote(f"character:{character['name']}")
    typer.echo(
        f"{character['name']}: {count} picture{'s' if count > 1 else ''}; give it as --ip-image {given}"
    )
