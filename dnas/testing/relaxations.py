"""The contract of relaxations as a check."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dnas.gradient.relax import Relaxation
from dnas.space import Alphas, Decision, Mix, initial_alphas
from dnas.testing.tasks import expect


def check_relaxation(
    relaxation: Relaxation, decisions: Mapping[str, Decision], *, seed: int = 0
) -> None:
    """Checks the contract of `dnas.gradient.relax.Relaxation`.

    Mixes have the shapes and types of alphas. Weights are finite and not negative, and some option
    of every row has weight. They depend on the key and the step alone, which may be traced. Tables
    may have leading axes. Every table is drawn with noise of its own, whatever the others are. The
    mix without noise prefers what alphas prefer, and gradients are finite.

    Args:
      relaxation: what is checked.
      decisions: tables to check it on.
      seed: of alphas and samples.

    Raises:
      AssertionError: the contract is broken; the message says where.
    """
    key = jax.random.key(seed)
    alphas = initial_alphas(decisions, key, scale=1.0)
    step = jnp.int32(3)
    sample = jax.jit(relaxation.sample)
    sampled = sample(key, alphas, step)
    expected = jax.jit(relaxation.expected)(alphas, step)
    for what, mix in {"sample": sampled, "expected": expected}.items():
        _check_mix(what, mix, alphas)
    close = _close(sampled, sample(jax.random.key(seed), alphas, step))
    expect(close, "sample draws something else of the same key")
    layered = {name: jnp.stack([table, table + 0.1]) for name, table in alphas.items()}
    _check_mix("sample of [layers, rows, options]", sample(key, layered, step), layered)
    first = relaxation.expected(layered, step)
    close = _close({name: table[0] for name, table in first.items()}, expected)
    expect(close, "expected mixes of rows depend on other layers")
    _check_preference(relaxation.expected, alphas, step)
    gradient = jax.jit(jax.grad(lambda a: _total(relaxation.sample(key, a, step))))(alphas)
    finite = all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient))
    expect(finite, "the gradient of a sample in alphas is not finite")


def _check_mix(what: str, mix: Alphas, alphas: Alphas) -> None:
    shapes, wanted = (
        {name: (x.shape, np.dtype(x.dtype)) for name, x in tables.items()}
        for tables in (mix, alphas)
    )
    expect(shapes == wanted, f"{what} makes tables {shapes}; expected those of alphas, {wanted}")
    for name, table in mix.items():
        good = bool((jnp.isfinite(table) & (table >= 0)).all())
        expect(good, f"{what} makes weights of table {name!r} that are negative or not finite")
        expect(bool((table.sum(-1) > 0).all()), f"{what} gives a row of table {name!r} no weight")


def _check_preference(
    expected: Callable[[Alphas, jax.Array], Mix], alphas: Alphas, step: jax.Array
) -> None:
    """The option of the largest logit, by far, has the largest weight."""
    for name, table in alphas.items():
        for option in range(table.shape[-1]):
            raised = {**alphas, name: table.at[..., option].set(4.0)}
            chosen = expected(raised, step)[name].argmax(-1)
            expect(
                bool((chosen == option).all()),
                f"expected does not prefer the option of the largest logit in table {name!r}",
            )


def _total(mix: Alphas) -> jax.Array:
    terms = ((table * jnp.arange(1.0, 1 + table.shape[-1])).sum() for table in mix.values())
    return jnp.asarray(sum(terms))  # of which no row is constant


def _close(one: Alphas, other: Alphas) -> bool:
    return all(bool(jnp.allclose(one[name], other[name], atol=1e-5)) for name in one)
