"""Whether a space, its supernet and the parts of a search fit each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from dnas import capabilities, sequences
from dnas.gradient.perturb import Perturbation
from dnas.gradient.relax import Relaxation
from dnas.gradient.skeleton import merge, skeleton
from dnas.space import SearchSpace, initial_alphas
from dnas.tasks.task import Task


def check_single_path(
    space: SearchSpace, relaxation: Relaxation, perturbation: Perturbation | None
) -> None:
    """Raises ValueError unless mixes at which weights train name a single option of each row."""
    if perturbation is not None:
        raise ValueError(
            "perturbation must be left out: this supernet computes single paths, and a perturbed "
            "mix has several options in a row; or take mixing without single_path"
        )
    key = jax.random.key(0)
    alphas = initial_alphas(space.decisions, key)
    for name, table in relaxation.sample(key, alphas, jnp.zeros((), jnp.int32)).items():
        if not bool(((table > 0).sum(-1) == 1).all()):
            raise ValueError(
                f"relaxation must have one-hot samples: this supernet computes single paths, and it"
                f" mixes options of table {name!r}; take another, or mixing without single_path"
            )


def check_tables(space: SearchSpace, task: Task) -> None:
    """Raises ValueError unless the supernet reads every table of decisions; only traces.

    Alphas that nothing reads would stay at their initial noise, and be taken for a result.
    """
    if unread := _unread(space, task):
        raise ValueError(
            f"no part of the supernet of {space.name!r} reads the decisions "
            f"{', '.join(map(repr, unread))}, whose alphas could only stay at their initial noise; "
            f"expected {_sizes_that_work(space)}"
        )


@functools.lru_cache(maxsize=64)
def _unread(space: SearchSpace, task: Task) -> tuple[str, ...]:
    """The tables on which the supernet's outputs do not depend."""
    graph, _, params = skeleton(space, task)
    names = sorted(space.decisions)
    alphas = jax.eval_shape(lambda key: initial_alphas(space.decisions, key), jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((2, *task.inputs.shape), task.inputs.dtype)

    def outputs(tables, params, inputs, key):
        mix = dict(zip(names, tables, strict=True))
        carry = sequences.initial_carry(space, 2)
        return sequences.read(merge(graph, params), inputs, carry, mix, key=key)[0]

    arguments = [alphas[name] for name in names], nnx.to_pure_dict(params), inputs
    program = jax.make_jaxpr(outputs)(*arguments, jax.random.key(0)).jaxpr
    needed = set(map(id, program.outvars))
    for equation in reversed(program.eqns):  # variables that lead to outputs, from these backwards
        if not needed.isdisjoint(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
    tables = program.invars[: len(names)]
    return tuple(n for n, table in zip(names, tables, strict=True) if id(table) not in needed)


def _sizes_that_work(space: SearchSpace) -> str:
    """What to do about tables that nothing reads: more cells, if the space says how many."""
    if isinstance(space, capabilities.Scaled) and isinstance(space, capabilities.Layered):
        for cells in range(space.cells + 1, space.cells + 33):
            if all(dataclasses.replace(space, cells=cells).layers.values()):
                return f"cells={cells} or more, not {space.cells}"
    return "a larger supernet, or a space without them"
