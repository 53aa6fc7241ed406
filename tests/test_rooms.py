"""Who may import whom: the rules that docs/architecture.md gives, held by reading every import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import understudy

PACKAGE = Path(understudy.__file__).parent
FRAMEWORKS = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "onnxruntime", "rtmlib"}
WORDS = {"understudy", "errors", "parameters", "settings"}
PICTURES = {*WORDS, "pictures", "guard", "fetch", "pose", "decoder", "blobs"}

# Each room, and the rooms or single modules of rooms that it may import. `understudy` is the
# package's own version.
MAY_IMPORT = {
    "understudy": {"client", "errors"},
    "errors": set(),
    "parameters": {"errors"},
    "settings": set(),
    "content_policy": {"errors", "settings"},
    "logs": set(),
    "client": WORDS - {"settings"},
    "catalog": {"errors", "parameters", "settings", "licences", "weights", "engines.presets"},
    "licences": set(),
    "pictures": PICTURES,
    "contact_sheet": set(),
    "guard": set(),
    "fetch": PICTURES,
    "decoder": PICTURES,
    "blobs": PICTURES,
    "pose": PICTURES,
    "weights": {"errors", "settings"},
    "hub": {"errors", "weights"},
    "engines": {*PICTURES, "licences", "weights"},
    "executors": {*WORDS},
    "candidates": {"parameters", "pictures", "engines", "executors"},
    "encoder": {"executors"},
    "worker": {*PICTURES, "candidates", "encoder", "content_policy", "engines", "executors", "logs"},
    "database": set(),
    "backup": {"errors", "understudy", "weights"},
    "migrations": {"database", "accounts", "jobs"},
    "accounts": {*WORDS, "database"},
    "meters": WORDS,
    "jobs": {*PICTURES, "content_policy", "database", "accounts", "executors", "meters"},
    "server": {*PICTURES, "accounts", "catalog", "content_policy", "database", "executors", "jobs", "meters"},
    "cli": {"commands", "errors"},
    "commands": {
        *PICTURES,
        *(
            "accounts",
            "backup",
            "catalog",
            "client",
            "contact_sheet",
            "database",
            "executors",
            "hub",
            "jobs",
            "licences",
            "logs",
            "server",
            "weights",
        ),
        "engines.memory_profile",
        "engines.presets",
    },
}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "understudy" if first == "__init__" else first


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each import of a module, those inside functions too: its package, and what of ours."""
    inside = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield parts[0], (parts[1] if len(parts) > 1 else "understudy")
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            parts = (node.module or "").split(".")
            yield parts[0], (parts[1] if len(parts) > 1 else "understudy")
        elif isinstance(node, ast.ImportFrom):
            base = [*inside[: len(inside) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            if base:
                yield "understudy", ".".join(base)
            else:
                for alias in node.names:
                    known = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file()
                    yield "understudy", alias.name if known else "understudy"


def test_every_room_has_its_rule():
    assert {_room(path) for path in _modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_rooms_it_may_know(path):
    room = _room(path)
    known = {ours for package, ours in _imports(path) if package == "understudy"}
    may_know = {room, *MAY_IMPORT[room]}
    assert {ours for ours in known if not {ours, ours.split(".")[0]} & may_know} == set()


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_engines_import_the_frameworks(path):
    if _room(path) != "engines":
        assert not {package for package, _ in _imports(path)} & FRAMEWORKS


def _loaded(statement: str, names: set[str]) -> set[str]:
    program = f"{statement}; import sys; print(*({names!r} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


def test_the_server_process_loads_no_framework():
    assert _loaded("import understudy.server.app, understudy.commands.serve", FRAMEWORKS) == set()


def test_the_sdk_loads_nothing_of_the_service():
    service = {"fastapi", "starlette", "sqlalchemy", "alembic", "typer", "PIL", "numpy", "msgspec", "uvicorn"}
    assert _loaded("import understudy", FRAMEWORKS | service) == set()


def test_the_decoder_and_the_executors_load_no_framework():
    statement = "import understudy.decoder, understudy.executors.local, understudy.pose.library"
    assert _loaded(statement, FRAMEWORKS) == set()
