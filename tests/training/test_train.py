"""The recipe that trains the whole model."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from training.toon.train import Stage, list_stages, run_stages


def test_the_shares_of_the_minutes_add_up(tmp_path):
    assert sum(stage.share for stage in list_stages(tmp_path)) == pytest.approx(1)


@pytest.mark.parametrize("number", range(9))
def test_every_training_understands_what_it_is_called_with(number, tmp_path, monkeypatch, capsys):
    """Its parser meets the arguments before anything else does; `--help` ends it there."""
    stage = list_stages(tmp_path)[number]
    module, *arguments = stage.call
    timed = ["--minutes", "1", "--workers", "1"] if stage.share else []
    monkeypatch.setattr(sys, "argv", [module, *arguments, *timed, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"training.toon.{module}").main()
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(argument in told for argument in arguments + timed if argument.startswith("--"))


def run(folder, minutes, stages):
    """The stages that ran, by what they wrote anew."""
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.done")}
    run_stages(stages, folder, minutes, workers=1)
    return {path.stem for path in folder.glob("*.done") if before.get(path) != path.stat().st_mtime_ns}


def test_what_is_done_is_not_done_again_unless_something_before_it_is_newer(tmp_path):
    # A module without a program of its own: it runs, and does nothing.
    stages = [
        Stage(name, ("captions",), share) for name, share in (("first", 0.6), ("second", 0.4), ("last", 0))
    ]
    assert run(tmp_path, 10, stages) == {"first", "second", "last"}
    assert run(tmp_path, 10, stages) == set()
    assert run(tmp_path, 5, stages) == set()
    assert run(tmp_path, 20, stages) == {"first", "second", "last"}
    (tmp_path / "second.done").unlink()
    assert run(tmp_path, 20, stages) == {"second", "last"}


def test_what_began_with_older_weights_begins_anew(tmp_path):
    stages = [Stage("first", ("captions",), 0.5), Stage("head", ("captions",), 0.5, begins_anew=True)]
    run(tmp_path, 10, stages)
    (tmp_path / "head").mkdir()
    (tmp_path / "first.done").unlink()
    run(tmp_path, 10, stages)
    assert not (tmp_path / "head").exists()


def test_a_training_that_fails_is_not_done(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        run_stages([Stage("none", ("no_such_training",), 1.0)], tmp_path, 1, workers=1)
    assert not list(tmp_path.glob("*.done"))


@pytest.mark.parametrize("number", range(9))
def test_called_alone_a_training_finds_what_those_before_it_made(number, monkeypatch):
    """Its own defaults are what the recipe tells it."""

    def end(*_):
        raise SystemExit

    def read_options(module, arguments):
        read = []
        parse = argparse.ArgumentParser.parse_args

        def keep(parser, *given):
            read.append(parse(parser, *given))
            return read[-1]

        with monkeypatch.context() as patched:
            patched.setattr(argparse.ArgumentParser, "parse_args", keep)
            patched.setattr(sys, "argv", ["a training", *arguments])
            # What each does first with its options.
            for name in ("begin", "export", "work_together"):
                patched.setattr(module, name, end, raising=False)
            with pytest.raises(SystemExit):
                module.main()
        return vars(read[0])

    stage = list_stages(Path("build/toon"))[number]
    name, *arguments = stage.call
    module = importlib.import_module(f"training.toon.{name}")
    minutes = ["--minutes", "1"] if stage.share else []
    # Which training it is, and no paths; but for the predictions, which are what makes it another one.
    needed = [word for word in arguments[:1] if not word.startswith("-")]
    if "--predictions" in arguments:
        needed += [
            "--predictions",
            arguments[arguments.index("--predictions") + 1],
            "--learning-rate",
            "0.001",
        ]
    assert read_options(module, needed + minutes) == read_options(module, arguments + minutes)
