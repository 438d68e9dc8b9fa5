"""Damage to each kind of file that a run leaves: the same command repairs it, or refuses.

One tiny search, training and comparison are run once. Each case damages a copy, gives the same
command again, and must end in one of three ways: the same result bit for bit; the same with a
warning; or one line that names the file, with nothing overwritten. A traceback, or another result
without a word, fails.
"""

import json
import os
import shutil
import warnings

import numpy as np
import pytest
from tiny_runs import newest

from dnas.runtime.checkpoints import CheckpointError
from dnas.runtime.workdir import ContradictionError, WorkdirError

DEEP = "[" * 10**5


def edit(name, change):
    """Changes the text of a file."""

    def damage(folder):
        path = folder / name
        text = path.read_text()
        changed = change(text)
        assert changed != text
        path.write_text(changed)

    return damage


def put(name, text):
    return edit(name, lambda _: text)


def cut(name):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def flip(name, part=0.5):
    """Flips a bit, somewhere in a file."""

    def damage(folder):
        data = bytearray((folder / name).read_bytes())
        data[int(part * len(data))] ^= 4
        (folder / name).write_bytes(bytes(data))

    return damage


def remove(name):
    def damage(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def all_of(*damages):
    def damage(folder):
        for one in damages:
            one(folder)

    return damage


def lines(name, change):
    def damage(text):
        every = text.splitlines(keepends=True)
        return "".join(change(every))

    return edit(name, damage)


def digit(name):
    """Another first digit in a file's last decimal fraction."""

    def change(text):
        head, dot, tail = text.rpartition(".")
        return f"{head}{dot}{(int(tail[0]) + 1) % 10}{tail[1:]}"

    return edit(name, change)


def arrays(**changes):
    def damage(folder):
        with np.load(folder / "alphas.npz") as stored:
            np.savez(folder / "alphas.npz", **{**stored, **changes})

    return damage


def in_newest(act, name="checkpoints"):
    return lambda folder: act(newest(folder, name))


def spoil(folder):
    """Zeros in place of a checkpoint's arrays."""
    for path in (folder / "arrays").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))


def everywhere(act, name="checkpoints"):
    def damage(folder):
        for path in (folder / name).iterdir():
            act(path)

    return damage


def as_file(folder):
    remove("checkpoints")(folder)
    (folder / "checkpoints").write_text("")


def number_99(folder):
    folder.rename(folder.with_name("99"))


SELECT_AGAIN = remove("selection.json")
FIRST, LAST = slice(0, 1), slice(-1, None)
CASES = {
    "search": {
        "config cut": cut("config.json"),
        "config empty": put("config.json", ""),
        "config deep": put("config.json", DEEP),
        "config nested": put("config.json", '{"a":' * 500 + "1" + "}" * 500),
        "config a number": put("config.json", "3"),
        "config removed": remove("config.json"),
        "config digit": edit("config.json", lambda text: text.replace('"seed": 0', '"seed": 8')),
        "alphas cut": cut("alphas.npz"),
        "alphas empty": lambda f: (f / "alphas.npz").write_bytes(b""),
        "alphas removed": remove("alphas.npz"),
        "alphas flipped": flip("alphas.npz", 0.3),
        "alphas text": lambda f: (f / "alphas.npz").write_text(DEEP),
        "alphas pickled": arrays(**{"mix/cell": np.array([print], object)}),
        "alphas of another shape": arrays(**{"alphas/cell": np.zeros((4, 2, 2))}),
        "alphas a scalar": arrays(**{"alphas/cell": np.float32(1)}),
        "alphas shorter": arrays(**{"alphas/cell": np.zeros((1, 1, 3), np.float32)}),
        "alphas others": arrays(**{"mix/cell": np.zeros((4, 1, 3), np.float32)}),
        "metrics 3": lines("metrics.jsonl", lambda x: [x[0], "3\n", *x[2:]]),
        "metrics {}": lines("metrics.jsonl", lambda x: [x[0], "{}\n", *x[2:]]),
        "metrics epoch a text": lines(
            "metrics.jsonl", lambda x: [x[0], '{"epoch": "1"}\n', *x[2:]]
        ),
        "metrics line cut": lines("metrics.jsonl", lambda x: [x[0][:20], *x[1:]]),
        "metrics last line cut": lines("metrics.jsonl", lambda x: [*x[:-1], x[-1][:20]]),
        "metrics doubled": lines("metrics.jsonl", lambda x: [x[0], *x]),
        "metrics missing": lines("metrics.jsonl", lambda x: [x[0], *x[2:]]),
        "metrics digit": digit("metrics.jsonl"),
        "metrics deep": lines("metrics.jsonl", lambda x: [DEEP + "\n", *x]),
        "metrics empty": put("metrics.jsonl", ""),
        "metrics removed": remove("metrics.jsonl"),
        "genotype cut": cut("genotype.json"),
        "genotype removed": remove("genotype.json"),
        "report deep": put("report.json", DEEP),
        "report removed": remove("report.json"),
        "selection cut": cut("selection.json"),
        "selection empty": put("selection.json", ""),
        "selection removed": remove("selection.json"),
        "selection {}": put("selection.json", "{}"),
        "selection 3": put("selection.json", "3"),
        "selection deep": put("selection.json", DEEP),
        "selection of an unknown operation": edit(
            "selection.json", lambda text: text.replace('"0->1": "', '"0->1": "un')
        ),
        "selection of another operation": edit(
            "selection.json",
            lambda text: text.replace("conv", "none").replace("skip_connect", "none"),
        ),
        "selection digit": digit("selection.json"),
        **{
            f"journal {name}": all_of(SELECT_AGAIN, damage)
            for name, damage in {
                "removed": remove("selection.jsonl"),
                "empty": put("selection.jsonl", ""),
                "deep": put("selection.jsonl", DEEP + "\n"),
                "3": lines("selection.jsonl", lambda x: [x[0], "3\n", *x[2:]]),
                "cut": lines("selection.jsonl", lambda x: [x[0], x[1][:9], *x[2:]]),
                "last line cut": lines("selection.jsonl", lambda x: [*x[:-1], x[-1][:9]]),
                "doubled": lines("selection.jsonl", lambda x: [x[0], *x]),
                "missing": lines("selection.jsonl", lambda x: x[2:]),
                "digit": digit("selection.jsonl"),
                "without the last state": all_of(
                    lines("selection.jsonl", lambda x: x[:-2]), remove("selection")
                ),
                "with a damaged state": all_of(
                    lines("selection.jsonl", lambda x: x[:-2]), everywhere(spoil, "selection")
                ),
            }.items()
        },
        "checkpoint spoilt": in_newest(spoil),
        "checkpoint without manifest": in_newest(remove("manifest")),
        "checkpoint with its manifest cut": in_newest(cut("manifest/metadata")),
        "checkpoint with its manifest deep": in_newest(put("manifest/metadata", DEEP)),
        "checkpoint without arrays": in_newest(remove("arrays")),
        "checkpoint of another number": in_newest(number_99),
        "checkpoints all spoilt": everywhere(spoil),
        "checkpoints removed": remove("checkpoints"),
        "checkpoints a file": as_file,
        "an empty checkpoint": lambda folder: (folder / "checkpoints" / "99").mkdir(),
        "a file as checkpoint": lambda folder: (folder / "checkpoints" / "99").write_text(""),
        "a stray file": lambda folder: (folder / "checkpoints" / "x").write_text(""),
    },
    "half": {
        "nothing": lambda folder: None,
        "alphas cut": cut("alphas.npz"),
        "alphas removed": remove("alphas.npz"),
        "metrics missing": lines("metrics.jsonl", lambda x: x[1:]),
        "the only checkpoint spoilt": in_newest(spoil),
        "the only checkpoint of another number": in_newest(number_99),
        "an empty checkpoint": lambda folder: (folder / "checkpoints" / "99").mkdir(),
    },
    "training": {
        "result cut": cut("result.json"),
        "result {}": put("result.json", "{}"),
        "result deep": put("result.json", DEEP),
        "result digit": digit("result.json"),
        "result removed": remove("result.json"),
        "metrics doubled": lines("metrics.jsonl", lambda x: [x[0], *x]),
        "checkpoint spoilt": in_newest(spoil),
        "checkpoints all spoilt": everywhere(spoil),
    },
    "comparison": {
        "a result cut": cut("found/seed-0/result.json"),
        "a result's digit": digit("random-1/seed-0/result.json"),
        "a result removed": remove("found/seed-0/result.json"),
        "a config cut": cut("found/seed-0/config.json"),
        "the comparison cut": cut("comparison.json"),
    },
}


def outcome(run, folder, expected, original):
    """How the same command ends: its class, and what there is to say about it."""
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            returned = run(folder)
        except (WorkdirError, CheckpointError, OSError) as error:
            text = str(error)
            if "\n" in text and not isinstance(error, ContradictionError):
                return "traceback", f"more than a line: {text}"
            if before != {path: path.read_bytes() for path in folder.glob("*.json")}:
                return "other", f"refused, but files were overwritten: {text}"
            return "refused", text
        except Exception as error:
            return "traceback", repr(error)[:200]
    # What the run's own machinery warns of, not JAX.
    said = [str(w.message) for w in caught if str(folder) in str(w.message)]
    said += [str(w.message) for w in caught if "alphas.npz lacks" in str(w.message)]
    if returned != expected:
        return "other", f"another result; {said}"
    for name in ("metrics.jsonl", "genotype.json", "report.json", "selection.json"):
        path = original / name
        if path.is_file() and (folder / name).read_bytes() != path.read_bytes():
            return "other", f"another {name}"
    return ("warned" if said else "same"), "; ".join(said)


REFUSED = {
    *("config cut", "config empty", "config deep", "config nested", "config a number"),
    *("config removed", "config digit", "checkpoints all spoilt", "checkpoints a file"),
    *("a config cut", "the only checkpoint spoilt", "the only checkpoint of another number"),
}
# Files that are only written, lines that a killed process began, and what a user removed.
SILENT = {
    *("genotype cut", "genotype removed", "report deep", "report removed", "selection removed"),
    *("journal removed", "journal empty", "journal last line cut", "checkpoints removed"),
    *("a file as checkpoint", "a stray file", "nothing", "result removed", "a result removed"),
    "the comparison cut",
}


@pytest.mark.parametrize(
    ("job", "name"), [(job, name) for job, cases in CASES.items() for name in cases]
)
def test_damage(originals, tmp_path, job, name):
    run, original, expected = originals[job]
    folder = shutil.copytree(original, tmp_path / "run")
    CASES[job][name](folder)
    done = originals["search" if job == "half" else job][1]
    kind, said = outcome(run, folder, expected, done)
    if log := os.environ.get("DNAS_DAMAGE_LOG"):
        with open(log, "a") as file:
            file.write(json.dumps([job, name, kind, said]) + "\n")
    wanted = "refused" if name in REFUSED else "same" if name in SILENT else "warned"
    assert kind == wanted, said
