"""The task of language modelling, in closed form."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas.nn.initial import initialise
from dnas.tasks import Classification, rebuild
from dnas.tasks.language import LanguageModelling, Predictions, TiedHead
from dnas.testing import check_task


def predictions(probabilities, change=0.0):
    """Predictions that say these probabilities."""
    return Predictions(
        jnp.log(jnp.asarray(probabilities)), jnp.full(len(probabilities), change, jnp.float32)
    )


def test_loss_perplexity_and_score_in_closed_form():
    task = LanguageModelling(4, length=2, unit="character", temporal_regularization=0.5)
    rows = [[[0.5, 0.25, 0.125, 0.125], [0.25] * 4]]
    outputs = predictions(rows, change=2.0)
    loss, sums = task.loss(outputs, jnp.array([[0, 3]]))
    entropies = np.log([2, 4])
    assert loss == pytest.approx(entropies.mean() + 0.5 * 2.0)
    metrics = task.metrics(sums)
    assert metrics.pop("regularization") == pytest.approx(0.5 * 2.0)  # in the loss alone
    assert metrics == pytest.approx(
        {"loss": entropies.mean(), "perplexity": math.sqrt(8), "bits_per_character": 1.5}
    )
    score = task.score(sums)
    perplexity = math.exp(entropies.mean())
    assert score.value == pytest.approx(-perplexity)
    assert score.error == pytest.approx(perplexity * entropies.std() / math.sqrt(2))
    assert "bits_per_character" not in LanguageModelling(4, 2).metrics(sums)
    assert task.chance == pytest.approx(math.log(4))


def test_sums_add_up_and_leave_out_what_only_fills_up():
    task = LanguageModelling(3, length=2)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 2, 3)).astype(np.float32)
    targets = rng.integers(0, 3, (4, 2))
    outputs = Predictions(jnp.asarray(logits), jnp.zeros(4))
    _, whole = task.loss(outputs, jnp.asarray(targets))
    halves = [
        task.tally(
            Predictions(outputs.logits[part], outputs.change[part]), jnp.asarray(targets[part])
        )
        for part in (slice(2), slice(2, 4))
    ]
    for name, value in whole.items():
        assert value == pytest.approx(float(halves[0][name] + halves[1][name]), rel=1e-6)
    # Rows of weight zero and targets below zero count for nothing, even where logits are infinite.
    broken = logits.copy()
    broken[3] = np.inf
    broken[2, 1] = np.nan
    targets = targets.copy()
    targets[2, 1] = -1
    weights = jnp.array([1.0, 1.0, 1.0, 0.0])
    loss, sums = task.loss(
        Predictions(jnp.asarray(broken), jnp.zeros(4)), jnp.asarray(targets), weights
    )
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    used = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    wanted = [-log[b, t, targets[b, t]] for b, t in used]
    assert float(sums["count"]) == 5 and float(loss) == pytest.approx(np.mean(wanted), rel=1e-5)
    found = task.evaluation(jax.device_get(sums))
    assert found.count == 5 and found.score == pytest.approx(task.score(sums))
    assert "5 words" in found.format_table() and found.as_dict()["loss"] == pytest.approx(
        np.mean(wanted), rel=1e-5
    )


def test_the_head_ties_its_matrices_and_drops_whole_words():
    head = initialise(TiedHead(5, 3), nnx.Rngs(0))
    assert sum(x.size for x in jax.tree.leaves(nnx.state(head, nnx.Param))) == 5 * 3 + 5
    matrix = np.asarray(head.embedding[...])
    assert np.abs(matrix).max() <= 0.04 and np.abs(matrix).max() > 0.02
    tokens = jnp.array([[0, 1, 0, 4]])
    features = head.embed(tokens)
    np.testing.assert_array_equal(features[0], matrix[[0, 1, 0, 4]])
    change = np.square(np.diff(features[0], axis=0)).mean()
    outputs = head((features, 2 * features))
    np.testing.assert_allclose(outputs.logits, 2 * features @ matrix.T, rtol=1e-5)
    assert float(outputs.change[0]) == pytest.approx(change, rel=1e-5)
    dropped = jax.vmap(lambda key: head.embed(tokens, 0.5, key))(
        jax.random.split(jax.random.key(0), 64)
    )
    kept = np.asarray(dropped[..., 0] != 0)[:, 0]
    assert (kept[:, 0] == kept[:, 2]).all() and 0.3 < kept[:, 1].mean() < 0.7
    scaled = np.asarray(dropped)[kept[:, 3], 0, 3]
    np.testing.assert_allclose(scaled, np.broadcast_to(2 * features[0, 3], scaled.shape), rtol=1e-6)


def test_contract():
    task = LanguageModelling(5, length=4, unit="character", symbols=tuple("abcd?"))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, (2, 6, 4)).astype(np.int32)
    batch = {"tokens": tokens[0], "targets": tokens[1], "reset": np.zeros(6, bool)}

    def outputs(key):
        return Predictions(jax.random.normal(key, (6, 4, 5)), jnp.arange(6.0))

    batch = jax.tree.map(jnp.asarray, batch)
    for weight in (0.0, 0.5):
        regularized = dataclasses.replace(task, temporal_regularization=weight)
        check_task(regularized, batch, outputs=outputs)
    assert rebuild(json.loads(json.dumps(task.describe()))) == task
    with pytest.raises(ValueError, match="has a vocabulary of 4 characters"):
        task.check_fit(LanguageModelling(4, unit="character"), "other")
    with pytest.raises(ValueError, match="is for classification"):
        task.check_fit(Classification((2, 2, 1), 3), "pictures")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": 0}, "vocabulary=0"),
        ({"length": 1}, "length=1"),
        ({"unit": "byte"}, "unit='byte': expected one of"),
        ({"temporal_regularization": -1.0}, "temporal_regularization=-1.0"),
        ({"symbols": ("a",)}, "symbols has 1 entries; expected vocabulary=3"),
    ],
)
def test_impossible_tasks_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelling(**{"vocabulary": 3, **fields})
