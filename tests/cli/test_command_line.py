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

from dnas import selection
from dnas.cli import build, flags, keys, search
from dnas.cli import config as configs
from dnas.gradient import relax
from dnas.parts import linear, part
from dnas.presets.kinds import KINDS
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


MISTAKES = {
    "--config.sed=1": "config.sed is unknown (did you mean 'seed'?)",
    "--config.foo=1": "config.foo is unknown; the keys are seed, preset,",
    "--config.space.chanels=1": "config.space.chanels is unknown (did you mean 'channels'?)",
    "--config.preset=dart": "config.preset='dart': expected one of",
    "--config.preset=p_darts --config.search.epochs=2": "config.search.epochs=2: expected one",
    "--config.preset=gdas --config.search.perturbation.name=adversarial "
    "--config.search.perturbation.radius=0.1": (
        "config.search.perturbation must be left out: this supernet computes single"
    ),
    "--config.preset=gdas --config.search.relaxation.name=softmax": (
        "config.search.relaxation must have one-hot samples"
    ),
    "--config.preset=p_darts --config.search.stopping.name=skip_count": (
        "config.search.stopping must be left out: a search in several stages"
    ),
    "--config.search.regularizer_weight=5": (
        "config.search.regularizer_weight is now config.search.regularizers.weight"
    ),
    "--config.search.relaxation=gumbel_softmax": (
        "config.search.relaxation is a section: it has name, temperature, hard; write "
        "config.search.relaxation.name=..."
    ),
    "--config.search.relaxation.temperature=5": (
        "config.search.relaxation.temperature is not used by softmax, the part of this method, "
        "only by gumbel_softmax, reinmax; choose one of them by config.search.relaxation.name"
    ),
    "--config.search.regularizers.name=l2": (
        "config.search.regularizers.weight is missing: l2 needs it"
    ),
    "--config.search.relaxation.name=reinmax --config.search.relaxation.temperature=(1.0,0.0)": (
        "config.search.relaxation.temperature=0.0: expected a number above 0"
    ),
    "--config.preset=pc_darts --config.space.channels=2": "the space's channels=2: expected",
    "--config.search.epochs=many": "config.search.epochs='many': expected a whole number",
    "--config.search.epochs": "--config.search.epochs: its value is missing",
    "--config.data.augment.flip=yes": "config.data.augment.flip='yes': expected True or False",
    "--config=digts": "--config='digts': there is no such file; expected one, or one of",
    "--config.search.batch_size=719": "config.search.batch_size=719: expected 1 to 718",
    "--config.train.augment.cutout=99": "config.train.augment.cutout must not exceed",
    "--config.data.augment.crop_padding=8": "config.data.augment.crop_padding must be smaller",
    "--config.train.batch_size=9999": "config.train.batch_size",
    "--config.compare_random=0 --config.train.epochs=1": "config.train.epochs has no",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_named_in_a_line(arguments):
    with pytest.raises(ValueError) as caught:
        search.prepare(settings_of(*arguments.split()))
    assert str(caught.value).startswith(MISTAKES[arguments]) or MISTAKES[arguments].startswith(
        "the space's"
    )
    assert MISTAKES[arguments] in str(caught.value) and "\n" not in str(caught.value)


def settings_of(*arguments):
    """What a command makes of the command line."""
    others, given = configs.split(arguments)
    source = others[0].removeprefix("--config=") if others else flags.DEFAULT
    config = configs.changed(configs.load(source), given)
    return flags.Settings(config, frozenset(given), None, "none", False)


def test_names_of_parts_forget_the_settings_of_others(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    mine = f"--config={tmp_path / 'mine.py'}"
    assert build.make_preset(settings_of(mine).config).relaxation == part(
        relax.gumbel_softmax, temperature=linear(3.0, 1.0), hard=True
    )
    named = settings_of(mine, "--config.search.relaxation.name=reinmax")
    assert build.make_preset(named.config).relaxation == part(relax.reinmax)
    colder = settings_of(mine, "--config.search.relaxation.temperature=2")
    assert dict(build.make_preset(colder.config).relaxation.settings)["temperature"] == 2
    nested = settings_of(
        "--config.search.selection.start.name=limited_skips",
        "--config.search.selection.start.limit=1",
        "--config.search.selection.name=local_search",
    )
    assert build.make_preset(nested.config).selection == part(
        selection.local_search, start=part(selection.limited_skips, limit=1)
    )


MINE = """
from dnas.configs import digits

def get_config():
    config = digits.get_config()
    config.search.relaxation = {"name": "gumbel_softmax", "temperature": (3.0, 1.0)}
    return config
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_it", "mine.py: No module named 'nothing_like_it'"),
        ("def get_config(", "mine.py: "),
        ("config = {}", "mine.py: expected a function get_config() in this file"),
        ("get_config = lambda: 3", "mine.py: get_config() returned 3; expected nested"),
        ("get_config = lambda: {'sed': 3}", "config.sed is unknown (did you mean 'seed'?)"),
    ],
)
def test_mistakes_in_a_config_are_a_line(text, message, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SystemExit) as caught:
        flags._config(str(tmp_path / "mine.py"), {})
    err = capsys.readouterr().err
    assert caught.value.code == 1 and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdr=x"], "Unknown command line flag 'workdr'"),
        (["runs/x"], "unexpected argument 'runs/x'"),
        (["--config.search.lr=1"], "config.search.lr is unknown"),
    ],
)
def test_mistakes_end_the_command(arguments, message):
    code, _, err = finish(start(*arguments))
    assert code == 1 and message in err and "compiling" not in err and err.count("\n") == 1


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
    for word in ("Examples:", "--parallel: <none|pmap>", "--workdir", "space.stem_multiplier"):
        assert word in out
    for kind, known in KINDS.items():
        assert f"search.{kind}.name" in out
        for factory in known.factories:
            assert f"{factory.__name__}: " in out
            assert all(f".{setting}: " in out for setting in keys.settings_of(factory))


SCRIPT = """
import os, signal, sys, warnings
from dnas.cli import flags
from dnas.runtime import loop
flags.define()
def run(settings, job):
    if settings.workdir == "loop":
        for text in ("odd", "odd", "strange"):
            warnings.resetwarnings()
            warnings.warn(text)
        raise loop.Stopped("SIGTERM", 7, None)
    if settings.workdir == "nan":
        raise loop.DivergedError("train_loss became nan at step 3")
    os.kill(os.getpid(), signal.SIGTERM)
flags.main(sys.argv, lambda settings: None, run, str)
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
        (tmp_path / "optax.py").write_text(code.format(name))
        for script in ("experiments.search", "experiments.train"):
            process = start(path=tmp_path, script=("-m", script))
            code_, _, err = finish(process)
            assert (
                code_ == 0
                and err == f"stopped by {name} before the run began; nothing was written\n"
            )


TINY = (
    "--config.space.channels=2",
    "--config.space.nodes=3",
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
    assert whole["alphas/cell"].shape == (26, 3, 5)
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
