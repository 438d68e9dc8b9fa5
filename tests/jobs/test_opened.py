"""Reading the directory of a training: without its data set, devices and kernels."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from flax import nnx

import dnas
from dnas import spaces
from dnas.jobs import train
from dnas.runtime import checkpoints, fingerprint, workdir
from dnas.runtime.settings import differences
from dnas.space import Mixing
from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.tasks import Classification
from dnas.training import trainer
from dnas.training.recipe import Recipe

SPACE = NASBench201(channels=2, cells=1, nodes=2, stages=1)
WIDER = NASBench201(channels=4, cells=1, nodes=2, stages=1)
GENOTYPE = SPACE.parse("|nor_conv_3x3~0|")
RECIPE = Recipe(epochs=2, batch_size=1432, learning_rate=0.1)


@pytest.fixture(scope="module")
def digits():
    return dnas.data.digits()


@pytest.fixture
def result(digits_training):
    return digits_training[0]


@pytest.fixture
def folder(digits_training, tmp_path):
    return shutil.copytree(digits_training[1], tmp_path / "moved")


def logits(network, data):
    return np.asarray(network(dnas.data.normalise(data.test.images, data.mean, data.std)).logits)


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_everything_of_a_training_is_there(result, folder, digits, monkeypatch):
    devices = {"kind": "pmap", "devices": 8, "kernels": "some"}  # as if it had run elsewhere
    change(folder / "config.json", parallel=devices)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(fingerprint, "of_devices", lambda kind: pytest.fail("asked for devices"))
    opened = dnas.open(folder)
    assert opened.finished and opened.seed == 3
    assert opened.genotype == GENOTYPE and opened.space == SPACE
    for name in (
        "test",
        "score",
        "parameters",
        "multiply_adds",
        "history",
        "task",
    ):
        assert getattr(opened, name) == getattr(result, name)
    assert opened.task.mean == digits.mean and opened.task.classes == 10
    assert opened.task.class_names == tuple("0123456789")
    np.testing.assert_array_equal(logits(opened.network, digits), logits(result.network, digits))
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reading_is_not_resuming(folder, digits):
    with pytest.raises(workdir.ContradictionError, match=r'parallel\.kind: "pmap" there, "none"'):
        train.train(SPACE, GENOTYPE, digits, RECIPE, workdir=folder, progress=False, seed=3)


def test_what_is_not_finished_says_so(result, folder, digits):
    (folder / "result.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # being written
    (folder / "checkpoints" / "9.orbax-checkpoint-tmp-1").mkdir()
    (folder / "checkpoints" / "9").mkdir()  # being removed
    opened = dnas.open(folder)
    assert not opened.finished and opened.test is None
    assert opened.history == result.history
    np.testing.assert_array_equal(logits(opened.network, digits), logits(result.network, digits))
    assert (folder / "checkpoints" / "9.orbax-checkpoint-tmp-1").is_dir()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint in"):
        _ = dnas.open(folder).network


def test_a_space_of_ones_own_is_asked_for(result, folder, digits):
    settings = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", space=settings["space"] | {"class": "Mine"})
    opened = dnas.open(folder)
    assert opened.score == result.score
    with pytest.raises(workdir.WorkdirError, match=r"space 'Mine'.*dnas\.open\(workdir, space="):
        _ = opened.network
    network = dnas.open(folder, space=SPACE).network
    np.testing.assert_array_equal(logits(network, digits), logits(result.network, digits))
    with pytest.raises(ValueError, match="NASBench201 is a class; make a space of it"):
        dnas.open(folder, space=NASBench201)
    with pytest.raises(ValueError, match=r"space: .*space\.channels: 2 there, 4 here"):
        dnas.open(folder, space=WIDER)


def test_a_task_of_ones_own_is_asked_for(result, folder, digits):
    @dataclasses.dataclass(frozen=True)
    class Mine(Classification):
        name = "mine"

    change(folder / "network.json", task="mine")
    opened = dnas.open(folder)
    assert opened.score == result.score
    with pytest.raises(workdir.WorkdirError, match=r"task 'mine'.*dnas\.open\(workdir, task="):
        _ = opened.network
    known = digits.task()
    mine = Mine(
        known.image_shape, known.classes, known.mean, known.std, class_names=known.class_names
    )
    network = dnas.open(folder, task=mine).network
    np.testing.assert_array_equal(logits(network, digits), logits(result.network, digits))
    other = dataclasses.replace(mine, classes=4, class_names=None)
    with pytest.raises(ValueError, match=r"task: .*task\.classes: 10 there, 4 here"):
        dnas.open(folder, task=other)


def test_another_class_or_code_is_another_space(digits):
    class Mine(NASBench201):
        pass

    class Wider(NASBench201):
        def network(self, genotype, task, **options):
            return dataclasses.replace(self, channels=8).network(genotype, task, **options)

    described = [
        trainer.describe(space, GENOTYPE, digits, RECIPE, "none")
        for space in (NASBench201(), Mine(), Wider())
    ]
    names = [line.split(":")[0] for line in differences(*described[:2])]
    assert {"space.class", "space.network.function"} <= set(names)
    names = [line.split(":")[0] for line in differences(*described[1:])]
    assert {"space.class", "space.network.code.digest"} <= set(names)


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        DARTS.subset("s1", cells=3),
        DARTS(mixing=Mixing(partial=4, edge_normalization=True), stem="imagenet"),
        NASBench201().restrict({"cell": {"0->1": ("none", "skip_connect")}}),
    ],
    ids=["tiny", "s1", "partial", "restricted"],
)
def test_spaces_come_back_from_plain_data(space):
    settings = json.loads(json.dumps(fingerprint.of_space(space)))
    assert spaces.rebuild(settings) == space
    with pytest.raises(ValueError, match=f"{space.name!r} are those of another version.*depth"):
        spaces.rebuild(settings | {"depth": 3})
    with pytest.raises(ValueError, match="space 'mine': expected one of nas_bench_201, darts"):
        spaces.rebuild(settings | {"name": "mine"})


def test_weights_of_another_network_are_refused(folder):
    change(folder / "config.json", space=fingerprint.of_space(WIDER))
    with pytest.raises(checkpoints.CheckpointError, match="belongs to another network"):
        _ = dnas.open(folder).network


def test_places_that_hold_no_run_or_several(folder, tmp_path):
    with pytest.raises(workdir.WorkdirError, match="no such directory"):
        dnas.open(tmp_path / "nowhere")
    with pytest.raises(workdir.WorkdirError, match=r"holds no config\.json"):
        dnas.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"seeds": [0], "genotype": {}}))
    with pytest.raises(workdir.WorkdirError, match=r"holds runs in folders, moved: open one"):
        dnas.open(tmp_path)


def test_networks_are_tested_on_any_test_split(result, folder, digits):
    """With the training's mean, not that of the other data set."""
    rng = np.random.default_rng(5)
    images, labels = rng.integers(0, 256, (23, 8, 8, 1), np.uint8), np.arange(23) % 10
    other = dnas.data.from_arrays(images, labels, images, labels, name="other")
    assert other.mean != digits.mean
    normal = dnas.data.normalise(images, digits.mean, digits.std)
    predicted = np.asarray(result.network(normal).logits.argmax(-1))
    confusion = [[((labels == i) & (predicted == j)).sum() for j in range(10)] for i in range(10)]
    known_task = {"task": digits.task()}
    for network, known in [
        *((result, {}), (folder, {}), (dnas.open(folder), {}), (result.network, known_task)),
    ]:
        evaluation = dnas.evaluate(network, other, batch_size=10, **known)
        np.testing.assert_array_equal(evaluation.confusion, confusion)
    files = workdir.Workdir(folder)
    files.write_sealed("result.json", files.read_sealed("result.json") | {"score": [0.123, 0.1]})
    assert dnas.evaluate(folder, digits).accuracy == result.test["accuracy"]  # computed again


def test_what_cannot_be_evaluated_is_said_in_a_line(result, folder, digits):
    images, labels = np.zeros((20, 9, 8, 1), np.uint8), np.arange(20) % 10
    tall = dnas.data.from_arrays(images, labels, images, labels)
    two = dnas.data.from_arrays(images[:, 1:], labels % 2, images[:, 1:], labels % 2)
    others = dataclasses.replace(digits, class_names=("0", "one", *"23456789"))
    (folder / "result.json").unlink()
    for network, data, message in [
        (result, tall, "data: the images of 'arrays' are 9x8x1, .* on images of 8x8x1"),
        (result, two, "data: 'arrays' has 2 classes, but the network was trained to tell 10 apart"),
        (
            result,
            others,
            "data: class 1 of 'digits' is 'one', but the network was trained to call it",
        ),
        (result.network, digits, "task must be given for a network alone"),
        (folder, digits, "is not finished, 2 of 2 epochs are done"),
        (nnx.Linear, digits, "network must be .* got a"),
        (result, (images, labels), "data: expected an object of Dataset, got 'tuple'"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            dnas.evaluate(network, data)
        assert "\n" not in str(caught.value)
    three = dnas.data.from_arrays(images[:, 1:], labels % 3, images[:, 1:], labels % 3)
    with pytest.raises(ValueError, match="3 classes, but the network was trained to tell 10 apart"):
        dnas.evaluate(result.network, three, task=digits.task())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", '{"epoch": 1}\n{"epoch": 1}\n'),
        ("metrics.jsonl", "3\n"),
        ("metrics.jsonl", "[" * 10**5 + "\n"),
        ("result.json", '{"score": [1.0, 0.0]}'),
        ("network.json", "3"),
        ("config.json", "{"),
        ("config.json", '{"seed": 0, "genotype": 3}'),
        (
            "config.json",
            '{"seed": 0, "genotype": {"cell": 3}, "space": {"name": "a"}, "train": {}}',
        ),
        ("config.json", '{"seed": 0, "genotype": {}, "space": {"name": "a"}, "train": {"lr": 1}}'),
    ],
)
def test_what_is_damaged_is_named_in_a_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(workdir.WorkdirError, match=re.escape(name)) as caught:
        _ = dnas.open(folder).network
    assert "\n" not in str(caught.value)


TABLES = {
    "alphas/cell": np.zeros((2, 1, 2)),
    "mix/cell": np.full((2, 1, 2), 0.5),
    "rows/cell": np.array(["0->1"]),
    "options/cell": np.array(["none", "skip_connect"]),
    "part/cell": np.array("cell"),
    "chooses/cell": np.array(True),
}


@pytest.mark.parametrize(
    ("changes", "epoch", "named"),
    [
        ({}, 2, "alphas.npz"),
        ({}, -1, "report.json"),
        ({"mix/cell": np.zeros((2, 3, 2))}, 1, "alphas.npz"),
        ({"mix/cell": np.float32(1)}, 1, "alphas.npz"),
        ({"options/cell": None}, 1, "alphas.npz"),
        ({"alphas/cell": None, "mix/cell": None}, 1, "alphas.npz"),
    ],
)
def test_tables_of_a_search_that_do_not_fit_are_named(tmp_path, changes, epoch, named):
    files = workdir.open_workdir(tmp_path, {"search": {}})
    files.write_arrays("alphas.npz", TABLES)
    files.write_json("report.json", {"epoch": 1})
    assert dnas.open(tmp_path).decisions["cell"].options == ("none", "skip_connect")
    files.write_arrays("alphas.npz", {k: x for k, x in (TABLES | changes).items() if x is not None})
    files.write_json("report.json", {"epoch": epoch})
    with pytest.raises(workdir.DamagedError, match=re.escape(named)) as caught:
        dnas.open(tmp_path)
    assert "\n" not in str(caught.value)
