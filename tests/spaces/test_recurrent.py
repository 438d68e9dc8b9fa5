"""The recurrent space: decisions, text forms, samples, and what it refuses."""

import collections
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas import Genotype, costs
from dnas.spaces import Recurrent, published
from dnas.tasks import LanguageModelling

DARTS_V2 = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), "
    "('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)
ENAS = (
    "Genotype(recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3), ('tanh', 3), "
    "('relu', 3), ('relu', 4), ('relu', 7), ('relu', 8), ('relu', 8), ('relu', 8)], "
    "concat=[2, 5, 6, 9, 10, 11])"
)


def test_decisions_are_the_published_36_rows_of_5_options():
    table = Recurrent().decisions["recurrent"]
    assert len(table.rows) == 36 and table.rows[:4] == ("0->1", "0->2", "1->2", "0->3")
    assert table.options == ("none", "tanh", "relu", "sigmoid", "identity")
    none, *others = table.traits
    assert none.zero and not none.weights
    # The activation that is the identity has a matrix and a gate all the same.
    assert all(traits.weights and not traits.idle for traits in others)


def test_published_texts_survive():
    space = Recurrent()
    genotype = space.parse(DARTS_V2)
    assert genotype["recurrent"]["5->8"] == "relu" and len(genotype["recurrent"]) == 8
    assert space.format(genotype) == DARTS_V2
    assert space.parse(f"DARTS_V2 = {DARTS_V2.replace('range(1, 9)', 'list(range(1, 9))')}") == (
        genotype
    )
    assert space.output(genotype) == [1, 2, 3, 4, 5, 6, 7, 8]
    enas = Recurrent(nodes=11, average="leaves")
    assert enas.format(enas.parse(ENAS)) == ENAS
    with pytest.raises(ValueError, match=r"concat must be \[1, 2, .*since average='all'"):
        Recurrent(nodes=11).parse(ENAS)


def test_numbers_of_parameters_are_the_published_ones():
    task = LanguageModelling(10_000)
    wide = Recurrent(channels=850)
    enas = Recurrent(channels=850, nodes=11, average="leaves")
    for space, text, count in ((wide, DARTS_V2, 22_960_000), (enas, ENAS, 27_295_000)):
        genotype = space.parse(text)
        assert costs.count_parameters(space, genotype, task) == count
    supernet = nnx.eval_shape(lambda: Recurrent().supernet(task, rngs=nnx.Rngs(0)))
    weights = nnx.state(supernet, nnx.Param)
    assert sum(x.size for x in jax.tree.leaves(weights)) == 4_810_000
    # A window of 35 tokens: every weight but the biases is used once for each, embedding aside.
    found = costs.count_multiply_adds(wide, wide.parse(DARTS_V2), task)
    assert found == 35 * (22_960_000 - 10_000)
    with pytest.raises(ValueError, match="average='leaves': expected 'all' in a search"):
        enas.supernet(task, rngs=nnx.Rngs(0))


def test_every_node_keeps_the_strongest_edge_by_its_best_operation_but_none():
    space = Recurrent(nodes=2)
    mix = {
        "recurrent": np.array(
            [
                [0.1, 0.2, 0.3, 0.2, 0.2],  # 0->1
                [0.90, 0.04, 0.03, 0.02, 0.01],  # 0->2: 'none' does not count
                [0.60, 0.05, 0.10, 0.20, 0.05],  # 1->2
            ]
        )
    }
    assert space.discretize(mix)["recurrent"] == {"0->1": "relu", "1->2": "sigmoid"}


def test_networks_leave_out_words_in_training_and_supernets_never_do():
    nothing = dict.fromkeys(
        ("input_dropout", "cell_dropout", "hidden_dropout", "output_dropout"), 0
    )
    space, task = Recurrent(4, 2, word_dropout=0.9, **nothing), LanguageModelling(50, length=6)
    inputs = jnp.arange(12).reshape(2, 6), space.initial_carry(2)
    supernet = space.supernet(task, rngs=nnx.Rngs(0))
    mix = {"recurrent": jnp.full((3, 5), 0.2)}
    outputs = [supernet(inputs, mix, key=key)[0].logits for key in (None, jax.random.key(0))]
    np.testing.assert_array_equal(*outputs)
    network = space.network(space.sample(np.random.default_rng(0)), task, rngs=nnx.Rngs(0))
    for train in (False, True):
        keys = jax.random.key(0), jax.random.key(1)
        one, other = (network(inputs, train=train, key=key)[0].logits.logits for key in keys)
        assert bool((one == other).all()) != train


def test_a_head_that_embeds_no_tokens_is_refused():
    class Headless(LanguageModelling):
        def head(self, channels, *, rngs):
            return nnx.Linear(channels[-1], self.vocabulary, rngs=rngs)

    with pytest.raises(ValueError, match=r"is a Linear; recurrent networks need a .*TokenHead"):
        Recurrent(4, 2).supernet(Headless(5, length=4), rngs=nnx.Rngs(0))


def test_samples_are_uniform_and_valid():
    space, rng = Recurrent(nodes=3), np.random.default_rng(0)
    rows, options = collections.Counter(), collections.Counter()
    for _ in range(1200):
        genotype = space.sample(rng)
        assert space.parse(space.format(genotype)) == genotype
        rows.update(genotype["recurrent"].keys())
        options.update(genotype["recurrent"].values())
    assert rows["0->1"] == 1200 and "none" not in options
    assert all(abs(rows[r] - 400) < 70 for r in ("0->3", "1->3", "2->3"))
    assert all(abs(options[o] - 900) < 110 for o in ("tanh", "relu", "sigmoid", "identity"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nodes": 0}, "nodes=0"),
        ({"average": "some"}, "average='some': expected one of"),
        ({"hidden_dropout": 1.0}, "hidden_dropout=1.0: expected a number from 0 to below 1"),
        ({"operations": ("none",)}, "expected one beside 'none'"),
        ({"operations": ("tanh", "elu")}, "expected a tuple of some of"),
        ({"operations": ("tanh", "tanh")}, "each only once"),
    ],
)
def test_impossible_spaces_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(**fields)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"0->1": "tanh"}, "node 2 of recurrent has 0 inputs"),
        ({"0->1": "tanh", "0->2": "relu", "1->2": "relu"}, "node 2 of recurrent has 2 inputs"),
        ({"0->1": "tanh", "1->2": "none"}, "'1->2' of recurrent has the operation 'none'"),
        ({"0->1": "tanh", "1->3": "relu"}, "has an edge '1->3'; its nodes are 0 to 2"),
    ],
)
def test_genotypes_that_do_not_belong_are_refused(cell, message):
    genotype = Genotype.create("recurrent", {"recurrent": cell})
    with pytest.raises(ValueError, match=message):
        Recurrent(nodes=2).validate(genotype)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected 'Genotype\(recurrent=\.\.\., \.\.\.\)'"),
        ("Genotype(recurrent=[('tanh', 0)])", r"must have the fields \('recurrent', 'concat'\)"),
        ("Genotype(recurrent=[], concat=[1])", "must be a list of a pair"),
        ("Genotype(recurrent=[('tanh', 1)], concat=[1])", "leads from node 1 to node 1"),
        ("Genotype(recurrent=[('a b', 0)], concat=[1])", "'a b' is no name"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[])", "concat must be some of the nodes"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[2])", r"must be some of the nodes \[1\]"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[1, 1])", "must list each node once"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(1, 9**40))", "must be a plain list"),
        (f"Genotype(recurrent=[('tanh', 0)], concat=range(1, {9**40}))", "must be some of the"),
        ("Genotype(recurrent=open('x'), concat=[1])", "recurrent must be a plain list"),
    ],
)
def test_malformed_texts_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        published.parse_recurrent(text)


def test_damaged_text_is_read_or_refused_and_nothing_else():
    rng, refused = random.Random(0), 0
    for _ in range(400):
        characters = list(DARTS_V2)
        for _ in range(rng.randint(1, 3)):
            where = rng.randrange(len(characters))
            kind = rng.randrange(3)
            if kind == 0:
                del characters[where]
            else:
                characters[where : where + kind - 1] = rng.choice("019()[]{}'\",=:\n\t #é*")
        try:
            genotype, output = published.parse_recurrent("".join(characters))
        except ValueError as error:
            assert str(error)
            refused += 1
        else:
            text = published.format_recurrent(genotype, output)
            assert published.parse_recurrent(text) == (genotype, output)
    assert refused > 200
