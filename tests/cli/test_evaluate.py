"""The command ``dnas evaluate``."""

import json
import sys

import pytest

import dnas
from dnas import cli


def test_the_data_set_is_the_trainings_and_numbers_are_written(
    digits_training, tmp_path, capsys, monkeypatch
):
    result, folder = digits_training
    output = tmp_path / "numbers.json"
    words = ["dnas", "evaluate", f"--run={folder}", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", words)
    assert cli.main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits, the test split of the training\ntest accuracy ")
    assert json.loads(output.read_text())["accuracy"] == result.test["accuracy"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--run is missing"),
        (["--run={folder}", "--config.data.pool=2"], "are 4x4x1, but the network was trained on"),
        (["--run={folder}", "--config.data.nane=digits"], "Unknown command line flag"),
        (["--run={folder}", "extra"], "unexpected argument 'extra'"),
        (["--run={folder}/checkpoints"], "holds no config.json"),
    ],
)
def test_mistakes_are_a_line(digits_training, capsys, monkeypatch, flags, message):
    flags = [flag.format(folder=digits_training[1]) for flag in flags]
    monkeypatch.setattr(sys, "argv", ["dnas", "evaluate", *flags])
    assert cli.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_commands_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dnas"])
    assert cli.main() == 0
    assert "evaluate" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["dnas", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"dnas {dnas.__version__}\n"
    monkeypatch.setattr(sys, "argv", ["dnas", "sail"])
    assert cli.main() == 1
    assert "no command 'sail'" in capsys.readouterr().err
