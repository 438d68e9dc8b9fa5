"""Configs and what is refused of them, by name, without compiling anything."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import presets, selection
from dnas.cli import build, keys
from dnas.cli import config as configs
from dnas.data import Augment
from dnas.genotype import Genotype
from dnas.gradient import hypergrad, relax
from dnas.gradient.stopping import Record
from dnas.parts import linear, part
from dnas.presets.kinds import KINDS
from dnas.spaces import Dense
from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.tasks import Classification

TASK = Classification((8, 8, 1), 10)
SPACE = NASBench201(channels=2, cells=1, stages=1)
# Parts whose weight has no default.
WEIGHTED = ("beta_decay", "entropy", "l2", "parameters", "multiply_adds", "align_weights")
NUMBERS = [name for name, key in keys.SECTIONS["search"].items() if isinstance(key, keys.Key)]


def load(name="digits", **changes):
    """A config with values of Python, by dotted keys whose dots are two underscores."""
    config = configs.load(name)
    for key, value in changes.items():
        *path, last = key.split("__")
        section = config
        for word in path:
            section = section.setdefault(word, {})
        section[last] = value
    return config


def preset(name="digits", **changes):
    return build.make_preset(load(name, **changes))


@pytest.mark.parametrize("name", configs.names())
def test_every_config_is_complete_and_documented(name):
    config = load(name)
    build.check_keys(config, ("seed", "preset", "space", "data", "search", "train"))
    build.make_space(config)
    build.make_preset(config)
    build.make_augment(config)
    build.make_recipe(config)
    text = importlib.import_module(f"dnas.configs.{name}").__doc__
    assert "Expected:" in text and "to be measured" not in text
    assert configs.load(f"experiments/configs/{name}.py") == config


def test_published_configs_are_the_published_search():
    config = load("darts_cifar10")
    assert build.make_space(config) == DARTS(channels=16, cells=8)
    assert build.make_preset(config) == presets.darts()
    assert build.make_augment(config) == Augment(4, True, 0)
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


def test_space_keys_may_hold_several_values():
    config = load("california_housing")
    given = "(16, 32)", "('relu',)", "(0.0, 0.5)"
    keys = ("widths", "activations", "dropouts")
    given = {f"space.{key}": text for key, text in zip(keys, given, strict=True)}
    space = build.make_space(configs.changed(config, given))
    assert space == Dense(widths=(16, 32), activations=("relu",), dropouts=(0.0, 0.5))
    with pytest.raises(ValueError, match=r"config\.space\.widths='wide': expected numbers"):
        configs.changed(config, {"space.widths": "wide"})


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_named_by_the_config_and_changed_by_its_keys(name):
    published = presets.PRESETS[name]()
    assert preset("darts_cifar10", preset=name) == published
    found = preset("darts_cifar10", preset=name, search__epochs=9, search__warmup=0.5)
    assert found == presets.PRESETS[name](epochs=9, warmup=0.5)


@pytest.mark.parametrize(
    ("kind", "factory"), [(kind, f) for kind, known in KINDS.items() for f in known.factories]
)
def test_every_part_can_be_named_and_is_what_its_factory_makes(kind, factory):
    needed = {"search__" + kind + "__weight": 0.5} if factory.__name__ in WEIGHTED else {}
    needed |= {"search__perturbation__radius": 0.1} if kind == "perturbation" else {}
    found = getattr(preset(**{f"search__{kind}__name": factory.__name__}, **needed), kind)
    found = found[0] if kind == "regularizers" else found
    values = {key.rpartition("__")[2]: value for key, value in needed.items()}
    assert found == part(factory, **values)


@pytest.mark.parametrize("kind", [kind for kind, known in KINDS.items() if known.optional])
def test_optional_parts_can_be_left_out(kind):
    for name in presets.PRESETS:
        if name != "darts_plus" or kind == "stopping":
            assert not getattr(preset(preset=name, **{f"search__{kind}__name": "none"}), kind)


def test_settings_reach_the_part_that_is_named():
    wanted = {"name": "gumbel_softmax", "temperature": (50.0, 0.01), "hard": False}
    found = preset(search__relaxation=wanted).relaxation
    assert found == part(relax.gumbel_softmax, temperature=linear(50.0, 0.01), hard=False)
    alphas = {"cell": jnp.array([[0.0, 2.0]])}
    relaxation = found.make(total_steps=11)
    hot, cold = (
        relaxation.sample(jax.random.key(0), alphas, jnp.int32(step))["cell"] for step in (0, 10)
    )
    assert 0.4 < hot.max() < 0.6 and cold.max() > 0.99


def test_settings_without_a_name_change_the_methods_own_part():
    found = preset(preset="gdas", search__relaxation={"temperature": 3.0})
    assert found == presets.gdas(
        epochs=50,
        alpha_learning_rate=3e-3,
        relaxation=part(relax.gumbel_softmax, temperature=3.0, hard=True),
    )
    found = preset(preset="beta_darts", search__regularizers={"weight": (0.0, 5.0)})
    assert found.regularizers[0].settings == (("weight", linear(0.0, 5.0)),)
    # Parts hold parts.
    begins = {"start": {"start": {"limit": 3}, "deviations": 2.0}, "count": 9}
    changed = dict(preset(preset="dnas", search__selection=begins).selection.settings)
    few = part(selection.limited_skips, limit=3, every_part=True)
    assert changed["count"] == 9 and changed["rivals"] == 4
    assert changed["start"] == part(selection.largest_of_close, start=few, deviations=2.0)
    replaced = preset(preset="dnas", search__selection={"start": {"name": "strongest"}})
    assert dict(replaced.selection.settings)["start"] == part(selection.strongest)


def test_numbers_and_parts_of_the_config_go_before_those_of_the_preset():
    found = preset(
        preset="pc_darts",
        search__batch_size=32,
        search__relaxation={"name": "sigmoid"},
        search__hypergradient={"name": "joint"},
    )
    alphas = {"cell": jnp.zeros((1, 2))}
    assert (found.batch_size, found.learning_rate, found.warmup) == (32, 0.1, 0.3)
    assert found.made("relaxation").expected(alphas, 0)["cell"].tolist() == [[0.5, 0.5]]
    assert found.modified(NASBench201()).mixing.partial == 4
    alphas = {"cell": jnp.asarray([[0.0, 1.0]])}
    problem = hypergrad.Problem(
        lambda params, a: (params * a["cell"]).sum(), lambda params, a: (0.0, "of both"), None
    )
    gradient, _ = found.made("hypergradient")(problem, jnp.asarray([2.0, 3.0]), None, alphas)
    assert gradient["cell"].tolist() == [[2.0, 3.0]]


def test_parts_replace_those_of_the_method():
    alphas = {"cell": jnp.zeros((6, 5))}
    price = {"name": "parameters", "weight": (1.0, 3.0)}
    found = preset(preset="dnas", search__regularizers=price)
    (cost,) = found.made("regularizers", total_steps=11, space=SPACE, task=TASK)
    largest = jnp.zeros((6, 5)).at[:, SPACE.operations.index("nor_conv_3x3")].set(1.0)
    costs = [float(cost(alphas, {"cell": s * largest}, step)[0]) for s, step in COSTS]
    assert costs == pytest.approx([1.0, 2.0, 1.5])

    mix = {"cell": jnp.full((6, 5), 0.2)}
    found = preset(
        search__perturbation={"name": "random_smoothing", "radius": (0.0, 0.1)},
        search__stopping={"name": "skip_count", "limit": 3},
        search__auxiliary_skip=(1.0, 0.0),
    )
    perturb = found.made("perturbation", total_steps=11)
    moved = [
        float(jnp.abs(perturb(jax.random.key(0), None, mix, s)["cell"] - 0.2).max())
        for s in (0, 10)
    ]
    assert moved[0] < 1e-6 and 0.03 < moved[1] <= 0.15
    fading = found.made("auxiliary_skip", total_steps=11)
    assert [float(fading(step)) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    kinds = ["skip_connect"] * 3 + ["none"] * 3
    rows = SPACE.decisions["cell"].rows
    genotype = Genotype.create(SPACE.name, {"cell": dict(zip(rows, kinds, strict=True))})
    assert found.made("stopping", space=SPACE).rule([Record(genotype)]) == 1


COSTS = ((1.0, 0), (1.0, 5), (0.5, 10))  # share of the largest cost, step


def everything(config):
    build.check_keys(config, ("seed", "preset", "space", "data", "search"))
    build.make_space(config)
    build.make_preset(config).check(SPACE, TASK)
    build.make_augment(config)
    build.make_table(config)
    build.make_data(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "expected a whole number of at least 0"),
        ("preset", "dart", r"expected one of .* (did you mean 'darts'?)"),
        ("search.warmup", 1.0, "expected a number from 0 to below 1"),
        ("space.name", "resnet", "expected one of nas_bench_201, darts"),
        ("space.channels", 0, "expected a whole number of at least 1"),
        ("space.subset", "s1", "is not used by the space 'nas_bench_201'"),
        ("space.stem_multiplier", 3, "is not used by the space 'nas_bench_201'"),
        ("search.epochs", 0, "expected a whole number of at least 1"),
        ("search.epochs", 1.5, "expected a whole number"),
        ("search.learning_rate", 0.0, "expected a number above 0"),
        ("search.final_learning_rate", 0.5, "expected at most"),
        ("search.momentum", 1.0, "expected a number from 0 to below 1"),
        ("search.alpha_betas", (0.5, 1.0), "expected two numbers from 0 to below 1"),
        ("search.hypergradient.name", "second", "expected one of first_order, unrolled"),
        ("search.relaxation.name", "softmx", "(did you mean 'softmax'?)"),
        ("search.relaxation.name", "none", "expected one of softmax"),
        ("search.relaxation.temperature", 1.0, "is not used by softmax, the part of this method"),
        ("search.relaxation.hard", "yes", "expected True or False"),
        ("search.relaxation.temprature", 1.0, "is unknown (did you mean 'temperature'?)"),
        ("search.hypergradient.terms", 2, "is not used by first_order, the part of this"),
        ("search.selection.limit", 2, "needs config.search.selection.name to be set, to one of"),
        ("search.stopping.limit", 2, "needs config.search.stopping.name to be set, to one of skip"),
        ("search.relaxation", "gumbel_softmax", "write config.search.relaxation.name=..."),
        ("search.temperature", 1.0, "is now config.search.relaxation.temperature"),
        ("search.regularizer", "l2", "is now config.search.regularizers.name"),
        ("search.tuning_epochs", 5.0, "is now config.search.selection.epochs"),
        ("data.flip", True, "is now config.data.augment.flip"),
        ("train.cutout", 4, "is now config.train.augment.cutout"),
        ("train.augment.cutuot", 1, "is unknown (did you mean 'cutout'?)"),
        ("search.lr", 1.0, "is unknown (did you mean 'learning_rate'?)"),
        ("data.train_limit", 1, "cannot limit"),
        ("data.augment.cutout", -1, "at least 0"),
        ("data.path", "pets", "is not used by the data set 'digits', which reads nothing"),
        ("data.size", 32, "is not used by the data set 'digits'"),
        ("table", "/no/such/table.csv", "there is no such file"),
    ],
)
def test_wrong_values_are_refused_by_key(key, value, message):
    config = load(**{key.replace(".", "__"): value})
    with pytest.raises(ValueError) as caught:
        everything(config)
    assert f"config.{key}" in str(caught.value)
    assert all(text in str(caught.value) for text in message.split(" .* "))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, 10**20, "much", ()])
def test_numbers_that_overflow_are_refused_by_key(value):
    places = [({}, name) for name in NUMBERS]
    for kind, known in KINDS.items():
        for factory in known.factories:
            named = {f"search__{kind}__name": factory.__name__}
            named |= {f"search__{kind}__weight": 1.0} if factory.__name__ in WEIGHTED else {}
            named |= {f"search__{kind}__radius": 0.1} if kind == "perturbation" else {}
            for setting, key in keys.settings_of(factory).items():
                if isinstance(key, keys.Key) and key.type not in (keys.TRUTH, keys.TEXT):
                    places.append((named, f"{kind}.{setting}"))
    assert len(places) > 50
    for named, key in places:
        config = load(**(named | {f"search__{key.replace('.', '__')}": value}))
        with pytest.raises(ValueError, match=rf"^config\.search\.{key}=.*expected") as caught:
            everything_about(config)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def everything_about(config):
    keys.check(config)
    found = build.make_preset(config)
    with build.naming("config.search"):
        found.check(found.modified(DARTS(channels=2, cells=3, nodes=1)), TASK)


def test_method_settings_of_another_method_are_refused():
    named = {"name": "unrolled", "radius": 0.1}
    with pytest.raises(ValueError, match=r"radius is not used by .*name=unrolled, only by finite"):
        preset(search__hypergradient=named)
    with pytest.raises(ValueError, match=r"limit is not used by .*name=none, only by"):
        preset(search__selection={"name": "none", "limit": 2})
    found = preset(search__hypergradient={"name": "neumann", "terms": 0})
    with pytest.raises(ValueError, match=r"^hypergradient\.terms=0: expected a whole number"):
        found.check(SPACE, TASK)


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


def test_a_table_of_another_space_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("")
    config = load("darts_cifar10", table=str(tmp_path / "table.csv"))
    with pytest.raises(ValueError, match=r"config\.table .*config\.space\.name='darts'"):
        build.make_table(config)


def test_keys_of_a_users_own_config_are_checked():
    for key in ("sed", "space.chanels", "data.limit", "search.lr", "train.learning"):
        with pytest.raises(ValueError, match=rf"config\.{key} is unknown.*; the keys are"):
            everything(load(**{key.replace(".", "__"): 3}))
    with pytest.raises(ValueError, match=r"config\.search\.batch_size='many': expected a whole"):
        everything(load(search__batch_size="many"))
    config = load()
    del config["space"]
    with pytest.raises(ValueError, match=r"config\.space is missing"):
        build.check_keys(config, ("seed", "space"))


@pytest.mark.parametrize("key", ["data.augment.flip", "train.augment.flip"])
def test_a_section_that_a_file_leaves_out_takes_keys_of_the_command_line(key):
    section, name, last = key.split(".")
    config = load(**{f"{section}__{name}": None})
    assert configs.changed(config, {key: "True"})[section][name] == {last: True}
    assert config[section][name] is None
