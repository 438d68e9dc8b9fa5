"""Dense networks: a one-hot mix is the discrete network, and training finds the least squares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dnas
from dnas.choices import one_hot
from dnas.data import from_csv
from dnas.spaces import SPACES, Dense, rebuild
from dnas.spaces.dense import INITIALISERS
from dnas.tasks import Classification, Regression
from dnas.testing import check_space
from dnas.training.recipe import Recipe

SPACE = Dense(depth=2, widths=(3, 5), dropouts=(0.0, 0.5))
TASK = Regression(("a", "b", "c"))
TEXT = "|5 tanh he_uniform 0.5|3 sigmoid glorot_uniform 0|"


def rows(size=6):
    return jax.random.normal(jax.random.key(1), (size, 3))


def mix_of(genotype):
    return {name: jnp.float32(table) for name, table in one_hot(SPACE, genotype).items()}


def test_contract():
    check_space(SPACE, TASK)


def test_a_one_hot_mix_is_the_discrete_network():
    for number in range(5):
        genotype = SPACE.sample(np.random.default_rng(number))
        supernet = SPACE.supernet(TASK, rngs=nnx.Rngs(number))
        network = SPACE.network(genotype, TASK, rngs=nnx.Rngs(0))
        before = 3
        for i, chosen in enumerate(SPACE.chosen(genotype)):
            layer, width = supernet.layers[i], chosen["width"]
            which = SPACE.initialisers.index(chosen["initialiser"])
            network.kernels[i].set_value(layer.kernels[which][...][:before, :width])
            layer.bias.set_value(jnp.arange(5.0))
            network.biases[i].set_value(jnp.arange(5.0)[:width])
            before = width
        network.head.kernel.set_value(supernet.head.kernel[...][:before])
        network.head.bias.set_value(supernet.head.bias[...])
        expected = network(rows()).logits
        np.testing.assert_allclose(supernet(rows(), mix_of(genotype)), expected, atol=1e-6)


def test_widths_and_dropouts_are_mixed_by_their_probabilities():
    supernet = SPACE.supernet(TASK, rngs=nnx.Rngs(0))
    mix = mix_of(SPACE.parse(TEXT))
    mix["width"] = jnp.array([[0.25, 0.75], [1.0, 0.0]])
    mix["activation"] = jnp.zeros((2, 5)).at[:, SPACE.activations.index("identity")].set(1)
    layer = supernet.layers[0]
    row = {part: table[0] for part, table in mix.items()}
    plain = layer(rows(4000), row | {"width": jnp.ones(2)}, None)
    expected = plain * jnp.array([0.5, 0.5, 0.5, 0.75, 0.75])  # the first are of both widths
    np.testing.assert_allclose(layer(rows(4000), row, None), expected, atol=1e-5)
    row["dropout"] = jnp.array([0.5, 0.5])
    found = layer(rows(4000), row, jax.random.key(0)) / layer(rows(4000), row, None)
    # Kept elements are half as they are and half doubled, dropped ones half as they are.
    np.testing.assert_allclose(np.unique(np.round(found, 3)), [0.5, 1.5])
    np.testing.assert_allclose(found.mean(), 1, atol=0.02)


def test_every_table_has_a_gradient():
    supernet = SPACE.supernet(TASK, rngs=nnx.Rngs(0))
    mix = {name: jnp.full((2, len(d.options)), 0.3) for name, d in SPACE.decisions.items()}

    def loss(mix):
        return jnp.square(supernet(rows(), mix, jax.random.key(0))).mean()

    for name, table in jax.jit(jax.grad(loss))(mix).items():
        assert (jnp.abs(table) > 1e-6).all(), name


def test_initial_weights_have_the_deviation_of_their_initialiser():
    task = Regression(tuple(map(str, range(200))))
    space = Dense(depth=1, widths=(300,))
    for name, variance in [("lecun_uniform", 1 / 200), ("glorot_uniform", 2 / 500)]:
        genotype = space.parse(f"|300 relu {name} 0|")
        network = space.network(genotype, task, rngs=nnx.Rngs(0))
        assert float(network.kernels[0][...].var()) == pytest.approx(variance, rel=0.02)
        assert not network.biases[0][...].any()
    assert INITIALISERS["he_uniform"](200, 1) ** 2 / 3 == pytest.approx(2 / 200)


def test_dropout_is_for_training_only():
    network = SPACE.network(SPACE.parse(TEXT), TASK, rngs=nnx.Rngs(0))
    first, second = (network(rows(), train=True, key=jax.random.key(i)).logits for i in range(2))
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(network(rows()).logits, network(rows()).logits)
    with pytest.raises(ValueError, match="drop_path must be 0 here"):
        network(rows(), train=True, drop_path=0.1)


def test_other_tasks_read_the_features_as_maps():
    task = Classification((4, 3, 2), 7)
    images = jnp.zeros((5, 4, 3, 2))
    assert SPACE.network(SPACE.parse(TEXT), task, rngs=nnx.Rngs(0))(images).logits.shape == (5, 7)


def test_samples_are_uniform_and_survive_text_and_discretization():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        genotype = SPACE.sample(rng)
        assert SPACE.parse(SPACE.format(genotype)) == genotype
        assert SPACE.discretize(mix_of(genotype)) == genotype
        seen |= {(part, *choice) for part in genotype.parts() for choice in genotype[part].items()}
    assert len(seen) == 2 * (2 + 5 + 3 + 2)
    assert SPACE.format(SPACE.parse(TEXT)) == TEXT


def test_settings_become_the_space_again():
    settings = {"name": "dense", **dataclasses.asdict(SPACE)}
    assert SPACES["dense"] is Dense and rebuild(settings) == SPACE and hash(rebuild(settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (0,)}, "widths=0: expected a whole number"),
        ({"widths": ()}, r"widths=\(\): expected a tuple of candidates"),
        ({"widths": [8]}, r"widths=\[8\]: expected a tuple"),
        ({"activations": ("relu", "gelu")}, "activations has 'gelu': expected some of relu, silu"),
        ({"initialisers": ("zeros",)}, "initialisers has 'zeros'"),
        ({"dropouts": (0.1, 1.0)}, "dropouts=1.0: expected a number from 0 to below 1"),
        ({"dropouts": (0.1, 0.1)}, "expected each only once"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Dense(**settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|5 tanh he_uniform 0.5|", "expected 2 layers such as"),
        (TEXT.replace("5 tanh", "6 tanh"), "'layer 1' of width has the option '6'"),
        (TEXT.replace("sigmoid", "gelu"), "'layer 2' of activation has the option 'gelu'"),
    ],
)
def test_texts_that_are_no_architectures(text, message):
    with pytest.raises(ValueError, match=message):
        SPACE.parse(text)


def test_a_linear_network_is_trained_to_the_least_squares(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(250, 3)) * [1, 10, 0.1] + [0, 5, 0]
    y = x @ [2.0, -0.3, 10.0] + 40 + rng.normal(0, 0.5, 250)
    np.savetxt(path := tmp_path / "a.csv", np.c_[x, y], "%.8g", ",", header="a,b,c,y", comments="")
    data = from_csv(path, "y")
    space = Dense(depth=1, widths=(4,), activations=("identity",), dropouts=(0.0,))
    recipe = Recipe(epochs=60, batch_size=20, learning_rate=0.05)
    genotype = space.sample(rng)
    result = dnas.train(space, genotype, data, recipe, progress=False)
    train, test = (
        {n: a.astype(np.float64) for n, a in s.arrays.items()} for s in (data.train, data.test)
    )
    best = np.linalg.lstsq(np.c_[train["row"], np.ones(200)], train["target"], rcond=None)[0]
    errors = np.c_[test["row"], np.ones(50)] @ best - test["target"]
    assert result.test["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=2e-2)
    assert result.score.value == pytest.approx(
        1 - (errors**2).mean() / test["target"].var(), abs=2e-3
    )
    again = dnas.evaluate(result, data)
    assert again.metrics == pytest.approx(result.test)
