"""Configs and what is refused of them, by name, without compiling anything."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import presets, selection
from dnas.cli import build, parts
from dnas.genotype import Genotype
from dnas.gradient import hypergrad
from dnas.gradient.stopping import Record
from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.tasks import Classification

CONFIGS = ("digits", "nas_bench_201", "nas_bench_201_cpu", "darts_cifar10")


def load(name="digits", **changes):
    config = importlib.import_module(f"experiments.configs.{name}").get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_complete_and_documented(name):
    config = load(name)
    build.check_keys(config, ("seed", "preset", "space", "data", "search", "train"))
    build.make_space(config)
    build.make_preset(config)
    build.make_augment(config)
    build.make_recipe(config)
    text = importlib.import_module(f"experiments.configs.{name}").__doc__
    assert "Expected:" in text and "to be measured" not in text


def test_published_configs_are_the_published_search():
    config = load("darts_cifar10")
    assert build.make_space(config) == DARTS(channels=16, cells=8)
    preset, published = build.make_preset(config), presets.darts()
    for name in build.NUMBERS:
        assert getattr(preset, name) == getattr(published, name)
    assert build.make_augment(config) == (4, True, 0)
    assert build.make_space(load("nas_bench_201")) == NASBench201(channels=16, cells=5)


def test_space_keys_reach_the_space():
    config = load("darts_cifar10", space__channels=4, space__stem_multiplier=1, space__subset="s2")
    assert build.make_space(config) == DARTS.subset("s2", channels=4, cells=8, stem_multiplier=1)
    config = load("digits", space__name="darts", space__cells=3, space__nodes=2)
    # The file's `stages` is meant for the space that the file names; a given one is an error.
    given = {"space.name", "space.cells", "space.nodes"}
    assert build.make_space(config, given) == DARTS(channels=8, cells=3, nodes=2)
    for other in (given | {"space.stages"}, set()):
        with pytest.raises(ValueError, match=r"config\.space\.stages is not used by .* 'darts'"):
            build.make_space(config, other)


def test_method_keys_reach_the_method():
    alphas = {"cell": jnp.array([[0.0, 2.0]])}

    def sample(step, **changes):
        config = load(search__relaxation="gumbel_softmax", **changes)
        relaxation = build.make_preset(config).relaxation(11)
        return relaxation.sample(jax.random.key(0), alphas, jnp.int32(step))["cell"]

    assert set(sample(0).ravel().tolist()) == {0.0, 1.0}
    hot = sample(0, search__hard=False, search__temperature=50.0, search__final_temperature=0.01)
    cold = sample(10, search__hard=False, search__temperature=50.0, search__final_temperature=0.01)
    assert 0.4 < hot.max() < 0.6 and cold.max() > 0.99


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_named_by_the_config_and_changed_by_its_keys(name):
    config = load("darts_cifar10", preset=name)
    published, found = presets.PRESETS[name](), build.make_preset(config)
    for number in build.NUMBERS:
        assert getattr(found, number) == getattr(published, number)
    config = load("darts_cifar10", preset=name, search__epochs=9, search__warmup=0.5)
    found = build.make_preset(config)
    assert (found.epochs, found.warmup, found.momentum) == (9, 0.5, published.momentum)


def test_numbers_and_parts_of_the_config_go_before_those_of_the_preset():
    config = load(
        preset="pc_darts",
        search__batch_size=32,
        search__relaxation="sigmoid",
        search__hypergradient="joint",
    )
    preset, alphas = build.make_preset(config), {"cell": jnp.zeros((1, 2))}
    assert (preset.batch_size, preset.learning_rate, preset.warmup) == (32, 0.1, 0.3)
    assert preset.relaxation(5).expected(alphas, 0)["cell"].tolist() == [[0.5, 0.5]]
    assert preset.modify(NASBench201()).mixing.partial == 4
    alphas = {"cell": jnp.asarray([[0.0, 1.0]])}
    problem = hypergrad.Problem(
        lambda params, a: (params * a["cell"]).sum(), lambda params, a: (0.0, "of both"), None
    )
    gradient, _ = preset.hypergradient(problem, jnp.asarray([2.0, 3.0]), None, alphas)
    assert gradient["cell"].tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize("name", parts.RELAXATIONS)
def test_every_relaxation_can_be_named(name):
    relaxation = build.make_preset(load(search__relaxation=name)).relaxation(5)
    alphas = {"cell": jnp.asarray([[0.0, 0.5, 3.0]])}
    mix = relaxation.sample(jax.random.key(0), alphas, jnp.int32(4))["cell"]
    assert mix.shape == (1, 3) and jnp.isfinite(mix).all()
    assert int(relaxation.expected(alphas, 0)["cell"].argmax()) == 2


def test_parts_replace_those_of_the_method():
    space, alphas = NASBench201(channels=2, cells=1), {"cell": jnp.zeros((6, 5))}
    preset = build.make_preset(
        load(
            preset="dnas",
            search__regularizer="parameters",
            search__regularizer_weight=1.0,
            search__final_regularizer_weight=3.0,
            search__selection="strongest",
        )
    )
    (cost,) = preset.regularizers(11, space)  # in place of beta decay
    largest = jnp.zeros((6, 5)).at[:, space.operations.index("nor_conv_3x3")].set(1.0)
    found = [float(cost(alphas, largest_at(largest, share), step)[0]) for share, step in COSTS]
    assert found == pytest.approx([1.0, 2.0, 1.5])
    assert preset.selection.__qualname__ == selection.strongest().__qualname__

    preset = build.make_preset(load(preset="dnas", search__regularizer="none"))
    assert preset.regularizers is None
    assert preset.selection.__qualname__ == selection.short_trainings().__qualname__

    mix = {"cell": jnp.full((6, 5), 0.2)}
    preset = build.make_preset(
        load(
            search__perturbation="random_smoothing",
            search__perturbation_radius=0.0,
            search__final_perturbation_radius=0.1,
            search__stopping="skip_count",
            search__skip_limit=3,
        )
    )
    moved = [
        float(jnp.abs(preset.perturbation(11)(jax.random.key(0), None, mix, s)["cell"] - 0.2).max())
        for s in (0, 10)
    ]
    assert moved[0] < 1e-6 and 0.03 < moved[1] <= 0.15
    kinds = ["skip_connect"] * 3 + ["none"] * 3
    rows = space.decisions["cell"].rows
    genotype = Genotype.create(space.name, {"cell": dict(zip(rows, kinds, strict=True))})
    assert preset.stopping(space).rule([Record(genotype)]) == 1
    never = build.make_preset(load(preset="darts_plus", search__stopping="never"))
    assert never.stopping is None


def test_every_setting_of_a_part_is_a_key_of_the_config():
    every = {key for keys in parts.PART_KEYS.values() for key in keys}
    assert every | set(parts.PARTS) <= set(load().search)
    preset = build.make_preset(load(search__selection="largest_of_close", search__deviations=2.0))
    assert preset.selection.__qualname__ == selection.largest_of_close().__qualname__
    with pytest.raises(ValueError, match="deviations"):
        build.make_preset(load(search__selection="short_trainings", search__deviations=0.0))


COSTS = ((1.0, 0), (1.0, 5), (0.5, 10))  # share of the largest cost, step


def largest_at(table, share):
    return {"cell": share * table}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, (_, choices) in parts.PARTS.items() for value in choices],
)
def test_every_part_can_be_named(key, value):
    preset = build.make_preset(load(**{f"search__{key}": value}))
    attribute, _ = parts.PARTS[key]
    assert (getattr(preset, attribute) is None) == (value in ("none", "never"))


def everything(config):
    build.check_keys(config, ("seed", "preset", "space", "data", "search"))
    build.make_space(config)
    build.make_preset(config)
    build.make_augment(config)
    build.make_table(config)
    build.make_data(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "expected a whole number of at least 0"),
        ("preset", "dart", "expected one of dnas, darts, darts_second_order"),
        ("search.warmup", 1.0, "expected a number from 0 to below 1"),
        ("search.terms", 3, "needs config.search.hypergradient to be set, to one of 'neumann'"),
        ("space.name", "resnet", "expected one of nas_bench_201, darts"),
        ("space.channels", 0, "expected a whole number of at least 1"),
        ("space.subset", "s1", "is not used by the space 'nas_bench_201'"),
        ("space.stem_multiplier", 3, "is not used by the space 'nas_bench_201'"),
        ("search.epochs", 0, "expected a whole number of at least 1"),
        ("search.learning_rate", 0.0, "expected a number above 0"),
        ("search.final_learning_rate", 0.5, "expected at most"),
        ("search.momentum", 1.0, "expected a number from 0 to below 1"),
        ("search.alpha_betas", (0.5, 1.0), "expected two numbers from 0 to below 1"),
        ("search.hypergradient", "second", "expected one of first_order, unrolled"),
        ("search.relaxation", "hard", "expected one of softmax, gumbel_softmax"),
        (
            "search.temperature",
            1.0,
            "needs config.search.relaxation to be set",
        ),
        (
            "search.hard",
            False,
            "needs config.search.relaxation to be set",
        ),
        ("search.inner_steps", 2, "needs config.search.hypergradient to be set, to one of"),
        ("search.radius", 0.1, "needs config.search.hypergradient to be set, to one of"),
        ("search.skips", 2, "needs config.search.selection to be set"),
        ("search.selection", "best", "expected one of strongest, limited_skips"),
        ("search.regularizer", "l1", "expected one of none, beta_decay"),
        ("data.train_limit", 1, "cannot limit"),
        ("data.cutout", -1, "at least 0"),
        ("data.path", "pets", "is not used by the data set 'digits', which reads nothing"),
        ("data.size", 32, "is not used by the data set 'digits'"),
        ("table", "/no/such/table.csv", "there is no such file"),
    ],
)
def test_wrong_values_are_refused_by_key(key, value, message):
    config = load()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError) as caught:
        everything(config)
    assert f"config.{key}" in str(caught.value) and message in str(caught.value)


def test_data_keys_reach_the_source(tmp_path):
    labels = np.arange(12) % 2
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    settings = {"data__name": "arrays", "data__path": str(tmp_path / "a.npz")}
    data = build.make_data(load(**settings, data__pool=2, data__train_limit=10))
    assert (data.image_shape, len(data.train), len(data.test)) == ((2, 2, 1), 10, 12)
    with pytest.raises(ValueError, match=r"config\.data\.size=2 is not used by .*'arrays'"):
        build.make_data(load(**settings, data__size=2))
    with pytest.raises(ValueError, match=r"config\.data\.path must be given"):
        build.make_data(load(data__name="folder"))
    with pytest.raises(FileNotFoundError, match=r"config\.data\.path='none': there is no such"):
        build.make_data(load(data__name="folder", data__path="none"))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, 10**20, "much", ()])
def test_numbers_that_overflow_are_refused_by_key(value):
    parts_of = [
        ({f"search__{name}": chosen}, key)
        for name, (_, choices) in parts.PARTS.items()
        for chosen, part in choices.items()
        for key in part.keys
    ]
    for chosen, key in [*parts_of, *(({}, number) for number in build.NUMBERS)]:
        config = load(**chosen)
        with config.ignore_type():
            config.search[key] = value
        with pytest.raises(ValueError, match=rf"^config\.search\.{key}=.*expected") as caught:
            preset = build.make_preset(config)
            preset.check(NASBench201(channels=2, cells=1, stages=1), Classification((8, 8, 1), 10))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_method_settings_of_another_method_are_refused():
    config = load(search__hypergradient="unrolled", search__radius=0.1)
    with pytest.raises(ValueError, match=r"radius is not used by .*'unrolled', only by"):
        build.make_preset(config)
    build.make_preset(load(search__hypergradient="unrolled", search__inner_steps=2))
    build.make_preset(load(search__hypergradient="finite_difference", search__radius=0.1))
    build.make_preset(load(search__hypergradient="neumann", search__terms=2))
    build.make_preset(load(search__hypergradient="conjugate_gradient", search__damping=0.1))
    with pytest.raises(ValueError, match=r"config\.search\.terms=0: expected a whole number"):
        build.make_preset(load(search__hypergradient="neumann", search__terms=0))


def test_a_table_of_another_space_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("")
    config = load("darts_cifar10", table=str(tmp_path / "table.csv"))
    with pytest.raises(ValueError, match=r"config\.table .*config\.space\.name='darts'"):
        build.make_table(config)


def test_keys_of_a_users_own_config_are_checked():
    for section, key in ((None, "sed"), ("space", "chanels"), ("data", "limit"), ("search", "lr")):
        config = load()
        with config.unlocked():
            (config if section is None else config[section])[key] = 3
        with pytest.raises(ValueError, match=rf"config\.(\w+\.)?{key} is unknown; the keys are"):
            everything(config)
    config = load()
    with config.unlocked():
        del config.search.batch_size
        config.search.batch_size = "many"
    with pytest.raises(ValueError, match=r"config\.search\.batch_size='many'"):
        everything(config)
    with config.unlocked():
        del config.space
    with pytest.raises(ValueError, match=r"config\.space is missing"):
        build.check_keys(config, ("seed", "space"))
