"""What the command line says of itself."""

import itertools
import subprocess
import sys

import pytest

from understudy import __version__
from understudy.catalog import list_slugs
from understudy.parameters import Parameters


def test_version(understudy):
    assert understudy("--version").stdout == f"understudy {__version__}\n"


def test_help_names_and_describes_every_command(understudy):
    words = understudy("--help").stdout
    for command in (
        "serve",
        "generate",
        "sheet",
        "poses",
        "characters",
        "keys",
        "doctor",
        "fetch",
        "backup",
        "restore",
    ):
        (line,) = [line for line in words.splitlines() if f"│ {command} " in line]
        assert len(line.strip("│ ").removeprefix(command).strip()) > 20


def test_a_paragraph_is_broken_by_the_terminal_alone(understudy):
    """Not where its source has a line's end, which leaves lines of two words."""
    told = understudy("serve", "--help", columns=80).stdout.partition("╭")[0]
    _, _, *lines = (line.strip() for line in told.splitlines() if line.strip())
    assert "A stop takes no new job, lets the running ones end" in " ".join(lines)
    width = max(map(len, lines))
    for line, following in itertools.pairwise(lines):
        assert len(f"{line} {following.split()[0]}") > width, line


@pytest.mark.parametrize(
    "command",
    [
        ("serve",),
        ("generate",),
        ("sheet",),
        ("poses",),
        ("doctor",),
        ("fetch",),
        ("backup",),
        ("restore",),
        ("keys", "create"),
        ("keys", "list"),
        ("keys", "revoke"),
        ("accounts", "create"),
        ("accounts", "list"),
        ("characters", "list"),
        ("characters", "show"),
        ("characters", "save"),
        ("characters", "update"),
        ("characters", "delete"),
        ("credits", "grant"),
        ("credits", "show"),
    ],
)
def test_every_option_is_described(understudy, command):
    lines = understudy(*command, "--help").stdout.splitlines()
    options = [line.strip("│* ") for line in lines if line.strip("│* ").startswith("--")]
    assert options
    for option in options:
        assert len(option.split()) > 3, option


def test_every_parameter_is_an_option(understudy):
    words = understudy("generate", "--help").stdout
    for name in Parameters.model_fields:
        assert f"--{name.replace('_', '-')} " in words


def test_every_range_is_told(understudy):
    words = " ".join(understudy("generate", "--help").stdout.split())
    for name, field in Parameters.model_fields.items():
        if {"Ge", "Le"} <= {type(limit).__name__ for limit in field.metadata}:
            described = words.partition(f"--{name.replace('_', '-')} ")[2]
            least, most = (
                getattr(limit, limit_name)
                for limit_name in ("ge", "le")
                for limit in field.metadata
                if hasattr(limit, limit_name)
            )
            assert f"From {least} to {most}." in described.partition(" --")[0], name


def test_every_model_that_there_can_be_is_told(understudy):
    words = "".join(understudy("generate", "--help", columns=400).stdout.split())
    assert all(slug in words for slug in list_slugs())


def test_help_loads_nothing_heavy():
    loaded = "{'torch', 'fastapi', 'sqlalchemy', 'numpy', 'PIL', 'httpx2', 'uvicorn', 'pydantic_settings'}"
    program = f"import sys, understudy.commands; print(sorted({loaded} & set(sys.modules)))"
    # httpx2 comes with the SDK's public names, which `import understudy` gives.
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['httpx2']"


def test_without_the_server_extra_it_says_what_to_install():
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise ModuleNotFoundError('No module named typer', name='typer')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from understudy.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert 'pip install ./models/toon ".[server]"' in done.stderr
