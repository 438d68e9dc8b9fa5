"""Supernet modifiers, tables by layer and restrictions of the spaces."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from dnas import SearchSpace, discretize
from dnas.genotype import Genotype
from dnas.space import Mixing
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification

TASK = Classification((8, 8, 3), 4)
CHEAP = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1")
SMALL = NASBench201(channels=2, cells=2, stages=2, nodes=3, operations=CHEAP)
SMALL_DARTS = DARTS(channels=2, cells=5, nodes=1, operations=CHEAP)
X = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


def soft(space, layered=False, seed=3):
    alphas = {}
    for i, (name, (_, rows, options)) in enumerate(space.decisions.items()):
        shape = (space.layers[name],) * layered + (len(rows), len(options))
        alphas[name] = jax.random.normal(jax.random.key(seed + i), shape)
    return {name: jax.nn.softmax(table) for name, table in alphas.items()}


@pytest.mark.parametrize(
    ("space", "plain"), [(SMALL, reference.nas_bench_201), (SMALL_DARTS, reference.darts)]
)
def test_every_layer_takes_its_own_table(space, plain):
    net = space.supernet(TASK, rngs=nnx.Rngs(0))
    graph, params = nnx.split(net)
    call = jax.jit(lambda mix: nnx.merge(graph, params)(X, mix))
    mix = soft(space, layered=True)
    expected = jax.jit(lambda mix: plain(nnx.merge(graph, params), X, mix, space))(mix)
    chex.assert_trees_all_close(call(mix), expected, rtol=1e-4, atol=1e-5)
    shared = soft(space)
    equal = {n: jnp.broadcast_to(t, (space.layers[n], *t.shape)) for n, t in shared.items()}
    chex.assert_trees_all_close(call(equal), call(shared), rtol=1e-4, atol=1e-5)
    assert jnp.abs(call(equal) - call(mix)).max() > 1e-3


def test_layers_are_counted():
    assert NASBench201().layers == {"cell": 15}
    assert DARTS().layers == {"normal": 6, "reduce": 2}
    assert DARTS(cells=1).layers == {"normal": 0, "reduce": 1}
    assert set(DARTS.subset("s1").layers) == set(DARTS.subset("s1").decisions)
    mix = soft(SMALL, layered=True)
    net = nnx.eval_shape(lambda: SMALL.supernet(TASK, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"'cell' have the shape \(3, 3, 4\);.*\(4, 3, 4\)"):
        nnx.eval_shape(lambda net: net(X, {"cell": mix["cell"][:3]}), net)


@pytest.mark.parametrize("space", [dataclasses.replace(SMALL, channels=4), DARTS(4, 2, 1)])
@pytest.mark.parametrize("single_path", [False, True])
def test_all_modifiers_combine(space, single_path):
    space = dataclasses.replace(space, mixing=Mixing(2, True, True, single_path))
    net = nnx.eval_shape(lambda: space.supernet(TASK, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(net)

    def loss(params, mix, key):
        net = nnx.merge(graph, params)
        return net(X, mix, key, auxiliary_skip=0.5, skip_dropout=0.1).sum()

    for layered in (False, True):
        mix = jax.eval_shape(lambda layered=layered: soft(space, layered))
        gradients = jax.eval_shape(jax.grad(loss, 1), params, mix, jax.random.key(0))
        assert {n: g.shape for n, g in gradients.items()} == {n: m.shape for n, m in mix.items()}


def test_auxiliary_skips_and_dropout_need_what_they_need():
    net = nnx.eval_shape(lambda: SMALL.supernet(TASK, rngs=nnx.Rngs(0)))
    mix = soft(SMALL)
    with pytest.raises(ValueError, match=r"Mixing\(auxiliary_skip=True\)"):
        nnx.eval_shape(lambda net: net(X, mix, auxiliary_skip=0.1), net)
    with pytest.raises(ValueError, match="skip_dropout needs a PRNG key"):
        nnx.eval_shape(lambda net: net(X, mix, skip_dropout=0.1), net)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NASBench201(mixing=Mixing(partial=0)), "mixing.partial=0"),
        (
            lambda: NASBench201(mixing=Mixing(partial=5)),
            "channels=16: expected a multiple of 5",
        ),
        (lambda: DARTS(channels=4, mixing=Mixing(partial=4)), "a multiple of 8"),
        (lambda: DARTS(mixing=Mixing(single_path=1)), "single_path=1: expected True or False"),
        (lambda: DARTS(mixing=4), "mixing=4: expected a dnas.space.Mixing"),
        (lambda: NASBench201(edges=(CHEAP,)), "names candidates for 1 edges"),
        (lambda: NASBench201().restrict({"normal": {}}), r"no parts \['normal'\].*\['cell'\]"),
        (lambda: DARTS().restrict({"normal": {"0->9": ()}}), r"no edges \['0->9'\]"),
        (lambda: DARTS().restrict({"reduce": {"0->2": ("conv",)}}), "'0->2' of reduce cannot keep"),
        (lambda: DARTS().restrict({"reduce": {"0->2": ("none",)}}), "no candidate .* connection"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_nodes_with_several_inputs_have_edge_weights():
    mixing = Mixing(edge_normalization=True)
    found = NASBench201(mixing=mixing).decisions
    assert list(found) == ["cell", "cell.2", "cell.3"]
    assert [decision.chooses for decision in found.values()] == [True, False, False]
    assert found["cell.3"] == ("cell", ("3",), ("0->3", "1->3", "2->3"))
    found = DARTS.subset("s1", mixing=mixing).decisions
    assert len(found) == 28 + 8 and found["reduce.2"] == ("reduce", ("2",), ("0->2", "1->2"))


def test_edge_weights_decide_which_edges_stay():
    space = DARTS(nodes=2, mixing=Mixing(edge_normalization=True))
    mix = {n: np.full((len(d.rows), len(d.options)), 0.01) for n, d in space.decisions.items()}
    sep, pool = space.operations.index("sep_conv_3x3"), space.operations.index("max_pool_3x3")
    for part in ("normal", "reduce"):
        mix[part][2:, sep] = [0.9, 0.5, 0.4]  # into node 3, from 0, 1 and 2
        mix[part][:2, pool] = [0.4, 0.5]
        mix[f"{part}.2"] = np.array([[0.5, 0.5]])
        mix[f"{part}.3"] = np.array([[0.1, 0.5, 0.4]])  # products 0.09, 0.25, 0.16
    genotype = space.discretize(mix)
    assert list(genotype["normal"].items()) == [
        ("1->2", "max_pool_3x3"),
        ("0->2", "max_pool_3x3"),
        ("1->3", "sep_conv_3x3"),
        ("2->3", "sep_conv_3x3"),
    ]
    report = discretize.report(mix, space.decisions)
    assert report["normal.3"]["rows"]["3"]["strongest"] == "1->3"
    lines = discretize.summary(report).splitlines()
    assert "no weights in 2 of 5 rows" in lines[0] and "rows" not in lines[1]
    # Five of five edges are idle: the two tables of edge weights do not dilute that.
    space = dataclasses.replace(space, operations=("skip_connect", "sep_conv_3x3"))
    mix |= {part: np.array([[0.9, 0.1]] * 5) for part in ("normal", "reduce")}
    warning = discretize.collapse_warning(discretize.report(mix, space.decisions))
    assert "'normal' are skip_connect 5 of 5" in warning


def test_restricted_spaces_sample_validate_and_discretize_their_own():
    space = NASBench201().restrict({"cell": {"0->2": ("nor_conv_3x3", "none")}})
    assert isinstance(space, SearchSpace) and hash(space) != hash(NASBench201())
    assert space.decisions["cell.0->2"] == (
        "cell",
        ("0->2",),
        ("none", "nor_conv_3x3"),
    )  # order kept
    assert len(space.decisions) == 6
    rng = np.random.default_rng(0)
    found = {space.sample(rng)["cell"]["0->2"] for _ in range(50)}
    assert found == {"none", "nor_conv_3x3"}
    genotype = space.sample(rng)
    with pytest.raises(ValueError, match="'0->2' has the operation 'skip_connect'"):
        space.validate(Genotype.create(space.name, {"cell": genotype["cell"] | {
            "0->2": "skip_connect"}}))  # fmt: skip
    mix = {
        name: np.array([[float(o == genotype["cell"][rows[0]]) for o in options]])
        for name, (_, rows, options) in space.decisions.items()
    }
    assert space.discretize(mix) == genotype
    # Restricted alike on every edge there is one table again.
    alike = dict.fromkeys(NASBench201().part.rows, ("skip_connect", "nor_conv_3x3"))
    space = NASBench201().restrict({"cell": alike})
    assert space.decisions["cell"].options == ("skip_connect", "nor_conv_3x3")
    space = DARTS().restrict({"normal": {"0->2": ("skip_connect",)}})
    assert space.restrict({}) == space and len(space.decisions) == 14 + 1
    assert NASBench201().restrict({}) == NASBench201()
