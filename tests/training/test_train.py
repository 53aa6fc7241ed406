"""The recipe that trains the whole model."""

import importlib
import sys

import pytest
from training.toon.train import list_stages


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
