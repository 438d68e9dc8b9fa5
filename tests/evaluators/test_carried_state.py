"""Evaluators of recurrent networks: what is carried goes from window to window."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dnas
from dnas import presets, sequences
from dnas.choices import one_hot, stacked
from dnas.data import text
from dnas.evaluators import Fidelity, SharedWeights, ShortTraining, Supernet
from dnas.evaluators import supernet as supernet_module
from dnas.gradient.skeleton import merge, skeleton
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.workdir import Workdir
from dnas.strategies import Racing, run

SPACE = dnas.spaces.Recurrent(channels=4, nodes=2)
BATCH = 3


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A search on a text, its first state, and its feed."""
    path = tmp_path_factory.mktemp("text") / "some.txt"
    rng, letters = np.random.default_rng(0), [0, 1]
    for _ in range(400):  # each depends on the two before
        letters.append((letters[-1] + letters[-2] + int(rng.random() < 0.2)) % 3)
    path.write_text("".join("abc"[i] for i in letters))
    data = text.from_text(path, "character", bptt=5)
    task, feed = data.task(), data.feed(data.halves(0), BATCH, jax.random.key(1))
    search = presets.darts().build(
        SPACE, task, steps_per_epoch=4, epochs=1, carry=SPACE.initial_carry(BATCH)
    )
    return task, feed, search, jax.jit(search.init)(jax.random.key(0))


def journal():
    return Journal(Workdir(None), Interrupts())


@pytest.mark.slow
def test_shared_weights_read_the_windows_in_order(parts):
    task, feed, search, state = parts
    supernet = Supernet(
        *(SPACE, task, search, state, feed), optimizer=optax.sgd(0.1), journal=journal()
    )
    evaluator = SharedWeights(SPACE, lambda mixes: supernet.validate(state, mixes))
    genotypes = [SPACE.sample(np.random.default_rng(seed)) for seed in range(3)]
    scores = evaluator(genotypes)

    graph = skeleton(SPACE, task).graph
    windows = feed.validation(supernet_module.EXAMPLES)
    assert [bool(batch["reset"].all()) for batch in windows] == [True] + [False] * (
        len(windows) - 1
    )
    for i, genotype in enumerate(genotypes):
        mix = {name: jnp.float32(table) for name, table in one_hot(SPACE, genotype).items()}
        carry, loss, count = SPACE.initial_carry(BATCH), 0.0, 0
        for batch in windows:
            net = merge(graph, state.params)
            outputs, carry = sequences.read(net, batch["tokens"], carry, mix)
            logs = np.asarray(jax.nn.log_softmax(outputs.logits), np.float64)
            for row, target in np.argwhere(np.asarray(batch["targets"]) >= 0):
                loss -= logs[row, target, batch["targets"][row, target]]
                count += 1
        assert scores.metrics["loss"][i] == pytest.approx(loss / count, rel=1e-4)
    assert len(feed.validation(1)) == 1


@pytest.mark.slow
def test_short_trainings_of_recurrent_cells(parts):
    task, feed, search, state = parts
    short_training = ShortTraining(
        *(SPACE, task, search, feed),
        optimizer=lambda steps: optax.sgd(0.5),
        key=jax.random.key(2),
        noise=None,
        journal=journal(),
    )
    genotype = SPACE.sample(np.random.default_rng(0))
    (early, late) = (short_training([genotype], Fidelity(n)) for n in (1, 60))
    assert late.metrics["loss"][0] < early.metrics["loss"][0]

    # A step is that of the fine-tuned first weights; its window begins the text.
    first = search.init(jax.random.fold_in(jax.random.key(2), 0))
    supernet = Supernet(
        *(SPACE, task, search, state, feed), optimizer=optax.sgd(0.5), journal=journal()
    )
    mix = one_hot(SPACE, genotype)
    tuned = supernet.finetune(first, mix, 1)
    same = supernet.validate(tuned, stacked([mix]))
    np.testing.assert_allclose(early.metrics["loss"], same.metrics["loss"], rtol=1e-3)

    strategy = Racing(SPACE, budget=1, count=5, longer=2)
    found = strategy.best(run(strategy, short_training, 0))
    SPACE.validate(found)
