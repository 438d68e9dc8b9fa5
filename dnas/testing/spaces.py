"""The contract of search spaces as a check."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnas import capabilities, sequences
from dnas.choices import one_hot, ones
from dnas.genotype import Genotype
from dnas.gradient.fit import check_tables
from dnas.gradient.skeleton import merge, skeleton
from dnas.space import SearchSpace
from dnas.tasks.task import Task
from dnas.testing.tasks import expect

_BATCH = 2


def check_space(space: SearchSpace, task: Task, *, samples: int = 5, seed: int = 0) -> None:
    """Checks the contract of `dnas.space.SearchSpace`; nothing is compiled.

    A space is hashable and equal to a copy. Its tables name their parts, rows and options. Samples
    are valid, come out of the mixing weights that stand for them, and survive the space's text.
    What is no choice is refused. The supernet is a function of its weights and reads every table.
    Supernet and network make outputs of the same shapes, those of the task's head.

    Args:
      space: what is checked.
      task: what its networks are for.
      samples: number of architectures to draw.
      seed: of the samples.

    Raises:
      AssertionError: the contract is broken; the message says where.
    """
    expect(isinstance(space, SearchSpace), "it lacks members of dnas.space.SearchSpace")
    expect(hash(space) == hash(space) and space == space, "it cannot be hashed and compared")
    _check_decisions(space)
    rng = np.random.default_rng(seed)
    drawn = [space.sample(rng) for _ in range(samples)]
    for genotype in drawn:
        _check_genotype(space, genotype)
    rng = np.random.default_rng(seed)
    again = [space.sample(rng) for _ in range(samples)]
    expect(again == drawn, "the same generator samples another architecture")
    _check_refusal(space, drawn[0])
    outputs = _supernet_outputs(space, task)
    expect(outputs == _network_outputs(space, drawn[0], task), "its network has other outputs")


def _check_decisions(space: SearchSpace) -> None:
    expect(bool(space.decisions), "it decides nothing")
    seen: set[tuple[str, str]] = set()
    for name, decision in space.decisions.items():
        expect(bool(decision.rows and decision.options), f"table {name!r} is empty")
        twice = len(set(decision.options)) < len(decision.options)
        expect(not twice, f"table {name!r} has an option twice: {decision.options}")
        traits = len(decision.traits)
        expect(traits == len(decision.options), f"table {name!r} tells the traits of {traits}")
        places = {(decision.part, row) for row in decision.rows if decision.chooses}
        expect(not places & seen, f"table {name!r} decides rows of another table: {places & seen}")
        expect(
            len(places) in (0, len(decision.rows)), f"table {name!r} has a row twice: {decision}"
        )
        seen |= places


def _check_genotype(space: SearchSpace, genotype: Genotype) -> None:
    expect(genotype.space == space.name, f"its samples belong to the space {genotype.space!r}")
    _valid(space, genotype)
    found = space.discretize(one_hot(space, genotype))
    expect(found == genotype, f"discretize makes {found} of the mix that stands for {genotype}")
    _valid(space, space.discretize(ones(space)))
    same = Genotype.from_json(genotype.to_json()) == genotype
    expect(same, f"{genotype} does not survive its JSON")
    if isinstance(space, capabilities.Published):
        text = space.format(genotype)
        expect(space.parse(text) == genotype, f"{genotype} does not survive its text {text!r}")


def _valid(space: SearchSpace, genotype: Genotype) -> None:
    try:
        space.validate(genotype)
    except ValueError as error:
        raise AssertionError(
            f"validate refuses {genotype}, which the space made: {error}"
        ) from error


def _check_refusal(space: SearchSpace, genotype: Genotype) -> None:
    """Other spaces' architectures, and unknown options, are refused."""
    choices = {part: dict(genotype[part]) for part in genotype.parts()}
    part, rows = next((part, rows) for part, rows in choices.items() if rows)
    unknown = {**choices, part: {**rows, next(iter(rows)): "no such option"}}
    for what, wrong in {
        "of another space": Genotype.create(f"not {space.name}", choices),
        "with an unknown option": Genotype.create(space.name, unknown),
    }.items():
        try:
            space.validate(wrong)
        except ValueError:
            continue
        raise AssertionError(f"validate takes an architecture {what}; expected ValueError")


def _inputs(task: Task) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((_BATCH, *task.inputs.shape), task.inputs.dtype)


def _supernet_outputs(space: SearchSpace, task: Task) -> Any:
    try:
        graph, _, params = skeleton(space, task)  # which refuses state beside the weights
        check_tables(space, task)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    mix = {name: jnp.asarray(table, jnp.float32) for name, table in ones(space).items()}

    def outputs(params, inputs, mix, key):
        carry = sequences.initial_carry(space, _BATCH)
        return sequences.read(merge(graph, params), inputs, carry, mix, key=key)[0]

    plain = nnx.to_pure_dict(params)
    return _shapes(jax.eval_shape(outputs, plain, _inputs(task), mix, jax.random.key(0)))


def _network_outputs(space: SearchSpace, genotype: Genotype, task: Task) -> Any:
    def outputs(inputs):
        network = space.network(genotype, task, rngs=nnx.Rngs(0))
        carry = sequences.initial_carry(network, _BATCH)
        return sequences.read(network, inputs, carry)[0].logits

    return _shapes(nnx.eval_shape(outputs, _inputs(task)))


def _shapes(outputs: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), outputs)
