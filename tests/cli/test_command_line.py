"""The command line as a user meets it: messages, exit codes, killed and resumed runs."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dnas.runtime import settings

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(*arguments, cache=None, script=("-m", "experiments.search"), path=ROOT):
    environment = {**os.environ, "PYTHONPATH": f"{path}:{ROOT}", "JAX_PLATFORMS": "cpu"}
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    return subprocess.Popen(
        [sys.executable, *script, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in err, err
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.sed=1"], "config.sed is unknown; did you mean 'seed'?"),
        (["--config.foo=1"], "config.foo is unknown. --help lists all keys."),
        (["--config.space.chanels=1"], "config.space.chanels is unknown; did you mean 'channels'?"),
        (["--config.preset=dart"], "config.preset='dart': expected one of dnas, darts, "),
        (
            ["--config.preset=p_darts", "--config.search.epochs=2"],
            "config.search.epochs=2: expected one",
        ),
        (
            ["--config.preset=gdas", "--config.search.perturbation=adversarial"],
            "error: config.search.perturbation must be left out: this supernet computes single",
        ),
        (
            ["--config.preset=gdas", "--config.search.relaxation=softmax"],
            "error: config.search.relaxation must have one-hot samples",
        ),
        (
            ["--config.preset=p_darts", "--config.search.stopping=skip_count"],
            "error: config.search.stopping must be left out: a search in several stages",
        ),
        (
            ["--config.preset=beta_darts", "--config.search.regularizer_weight=5"],
            "config.search.regularizer_weight needs config.search.regularizer to be set",
        ),
        (
            ["--config.preset=pc_darts", "--config.space.channels=2"],
            "the space's channels=2: expected",
        ),
        (
            ["--config.search.epochs=many"],
            "error: flag --config.search.epochs=many: invalid literal",
        ),
        (["--workdr=x"], "Unknown command line flag 'workdr'"),
        (["runs/x"], "unexpected argument 'runs/x'"),
        (["--config=none.py"], "none.py"),
        (["--config.search.batch_size=719"], "config.search.batch_size=719: expected 1 to 718"),
        (["--config.data.crop_padding=8"], "config.data.crop_padding must be smaller"),
        (["--config.train.batch_size=9999"], "config.train.batch_size"),
        (["--config.compare_random=0", "--config.train.epochs=1"], "config.train.epochs has no"),
    ],
)
def test_mistakes_are_named_in_a_line(arguments, message):
    code, _, err = finish(start(*arguments))
    assert code == 1 and message in err and "compiling" not in err


def test_another_training_than_the_comparisons_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "compare").mkdir()
    stored = settings.stamped({"train": {"epochs": 999}}, None)
    (tmp_path / "compare" / "config.json").write_text(json.dumps(stored))
    (tmp_path / "compare" / "metrics.jsonl").touch()
    (tmp_path / "config.json").write_text("{}")
    code, out, err = finish(start("--config.train.epochs=2", f"--workdir={tmp_path}"))
    assert code == 1 and out == ""
    assert "compare belongs to a run" in err and "train.epochs: 999 there, 2 here" in err
    assert (tmp_path / "config.json").read_text() == "{}"


def test_help_begins_with_how_to_use_it():
    code, out, _ = finish(start("--help"))
    assert code == 0 and out.startswith("Searches an architecture")
    for word in ("Examples:", "search.hypergradient", "--parallel: <none|pmap>", "--workdir"):
        assert word in out


SCRIPT = """
import os, signal, sys, warnings
from dnas.cli import flags
from dnas.runtime import loop
flags.define()
def run(settings, job):
    if sys.argv[1] == "--workdir=loop":
        for text in ("odd", "odd", "strange"):
            warnings.resetwarnings()
            warnings.warn(text)
        raise loop.Stopped("SIGTERM", 7, None)
    if sys.argv[1] == "--workdir=nan":
        raise loop.DivergedError("train_loss became nan at step 3")
    os.kill(os.getpid(), signal.SIGTERM)
flags.main(lambda settings: None, run)
"""


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("loop", 0, "warning: odd\nwarning: strange\nstopped by SIGTERM after step 7"),
        ("between", 0, "stopped by SIGTERM between two jobs"),
        ("nan", 1, "error: train_loss became nan at step 3"),
    ],
)
def test_how_a_script_ends(how, code, message):
    found, _, err = finish(start(f"--workdir={how}", script=("-c", SCRIPT)))
    assert found == code and message in err


def test_signals_while_a_script_starts(tmp_path):
    # An import that takes long, as that of JAX may, and sends what a scheduler would.
    code = "import os, signal\nos.kill(os.getpid(), signal.{})\nimport time\ntime.sleep(60)"
    for name in ("SIGTERM", "SIGINT"):
        (tmp_path / "ml_collections.py").write_text(code.format(name))
        for script in ("experiments.search", "experiments.train"):
            process = start(path=tmp_path, script=("-m", script))
            code_, _, err = finish(process)
            assert (
                code_ == 0
                and err == f"stopped by {name} before the run began; nothing was written\n"
            )


TINY = (
    "--config.space.channels=2",
    "--config.data.train_limit=32",
    "--config.search.batch_size=8",
    "--config.search.epochs=25",
    "--config.compare_random=0",
)


@pytest.mark.slow
def test_a_preset_searches_by_its_name_with_other_numbers(tmp_path):
    changes = ("--config.preset=darts_plus", "--config.search.epochs=2", "--noprogress")
    betas = "--config.search.alpha_betas=(0.4, 0.9)"
    code, out, err = finish(start(*TINY, *changes, betas, f"--workdir={tmp_path}"))
    assert code == 0, err
    told = json.loads((tmp_path / "report.json").read_text())["warnings"]
    assert ("found, but see the warnings below: |" if told else "found: |") in out
    assert all(f"warning: {text}" in out for text in told)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["given"]["preset"] == "darts_plus"
    assert config["search"]["alpha_betas"] == [0.4, 0.9] and config["search"]["momentum"] == 0.9
    report = json.loads((tmp_path / "report.json").read_text())
    choices = json.loads((tmp_path / "genotype.json").read_text())["choices"]["cell"]
    skips = list(choices.values()).count("skip_connect")
    assert report["epoch"] == len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert report["epoch"] == 2 or skips >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), [("p_darts", 3), ("dnas", 1)])
def test_searches_of_several_stages_and_with_a_selection_run_by_their_names(name, epochs, tmp_path):
    changes = (f"--config.preset={name}", f"--config.search.epochs={epochs}", "--noprogress")
    code, out, err = finish(start(*TINY, *changes, f"--workdir={tmp_path}"))
    assert code == 0 and re.search(r"^found.*: \|", out, re.MULTILINE), err
    report = json.loads((tmp_path / "report.json").read_text())
    chosen = json.loads((tmp_path / "selection.json").read_text())
    assert chosen["record"] == report["selection"]
    assert chosen["choices"] == json.loads((tmp_path / "genotype.json").read_text())["choices"]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == epochs  # of all stages; the report's is that of the last one
    if name == "dnas":
        assert report["selection"][-1]["trainings"] > 1


@pytest.mark.slow
def test_a_killed_search_ends_as_the_uninterrupted_one(tmp_path):
    def search(name):
        return start(*TINY, f"--workdir={tmp_path / name}", cache=tmp_path / "cache")

    code, out, err = finish(search("whole"))
    assert code == 0, err
    assert re.search(r"^found.*: \|", out, re.MULTILINE) and str(tmp_path / "whole") in out
    assert "search: compiling" in err and "epoch 25/25 step 50/50 loss" in err

    killed = search("killed")
    while not (tmp_path / "killed" / "checkpoints" / "4").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    stopped = search("killed")
    while not (tmp_path / "killed" / "checkpoints" / "20").exists():
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    code, _, err = finish(stopped)
    assert code == 0 and "stopped by SIGTERM after step" in err and "The same command" in err
    code, _, err = finish(search("killed"))
    assert code == 0, err

    for name in ("metrics.jsonl", "genotype.json", "config.json", "report.json"):
        whole, resumed = ((tmp_path / run / name).read_bytes() for run in ("whole", "killed"))
        assert whole == resumed, name
    whole, resumed = (dict(np.load(tmp_path / run / "alphas.npz")) for run in ("whole", "killed"))
    assert whole["alphas/cell"].shape == (26, 6, 5)
    for name, array in whole.items():
        assert array.tobytes() == resumed[name].tobytes()
    # The manifest of a checkpoint has the checksum of every leaf: weights, optimizers, key.
    manifest = pathlib.Path("checkpoints", "50", "manifest", "metadata")
    leaves = [
        json.loads((tmp_path / run / manifest).read_text())["leaves"] for run in ("whole", "killed")
    ]
    assert len(leaves[0]) > 20 and leaves[0] == leaves[1]
    assert (tmp_path / "cache").is_dir()

    code, _, err = finish(start(*TINY, "--config.seed=1", f"--workdir={tmp_path / 'whole'}"))
    assert code == 1 and "seed: 0 there, 1 here" in err
