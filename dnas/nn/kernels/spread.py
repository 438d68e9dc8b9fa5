"""From a node to the edges that leave it, and back.

Cotangents of edges are stacked and added up here. XLA:CPU writes the stack as a sum of padded
arrays, which takes a tenth of a step of NAS-Bench-201 where the copy takes a hundredth, and needs
three passes for the gradient of weights.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching

from dnas.nn.kernels import depthwise, native
from dnas.nn.kernels.primitives import define


def weigh(x: jax.Array, weights: jax.Array) -> jax.Array:
    """An image for each edge: ``x * weights``.

    Args:
      x: ``[batch, height, width, channels]``.
      weights: ``[edges]``.

    Returns:
      ``[batch, height, width, edges, channels]``.
    """
    return _weigh_p.bind(x, weights.astype(x.dtype))


def unstack(x: jax.Array) -> Sequence[jax.Array]:
    """The images of all edges, each ``[..., channels]``, of ``[..., edges, channels]``."""
    return _unstack_p.bind(x)


def pin(x: jax.Array) -> jax.Array:
    """`x` itself, stored.

    XLA:CPU computes a sum once more for every reader of it: that of a node for the node and for
    its ReLU. Stored, these sums take 0.2 s of a NAS-Bench-201 step instead of 0.4.
    """
    return _pin_p.bind(x)


def _reference_weigh(x, weights):
    return x[..., None, :] * weights[:, None]


def _reference_unstack(x):
    return [x[..., edge, :] for edge in range(x.shape[-2])]


def _reference_stack(*images):
    return jnp.stack(images, -2)


def _weigh_images(ct, x, weights):
    del x
    if native.preferred(ct):
        return depthwise.fold_edges(ct, weights)
    return jnp.einsum("...ec,e->...c", ct, weights)


def _weigh_weights(ct, x, weights):
    del weights
    if native.preferred(ct):
        return depthwise.edge_products(x, ct)
    return jnp.einsum("...ec,...c->e", ct, x)


def _derivative_of_stack(primals, tangents):
    return _stack_p.bind(*primals), _stack_p.bind(*map(ad.instantiate_zeros, tangents))


def _transpose_stack(ct, *images):
    cts = _unstack_p.bind(ct)
    return [c if ad.is_undefined_primal(i) else None for c, i in zip(cts, images, strict=True)]


def _derivative_of_unstack(primals, tangents):
    return _unstack_p.bind(*primals), _unstack_p.bind(*tangents)


def _transpose_unstack(cts, x):
    del x
    return [_stack_p.bind(*map(ad.instantiate_zeros, cts))]


def _batch_leading(primitive):
    """Whatever stands before the last axes is one of many."""

    def rule(args, dims):
        size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        args = [batching.bdim_at_front(a, d, size) for a, d in zip(args, dims, strict=True)]
        out = primitive.bind(*args)
        return (out, [0] * len(out)) if primitive.multiple_results else (out, 0)

    return rule


def _batch_weigh(args, dims):
    return jax.vmap(_reference_weigh, dims)(*args), 0


def _reference_pin(x):
    return x


_pin_p = define("dnas_pin", _reference_pin)
ad.deflinear2(_pin_p, lambda ct, x: [_pin_p.bind(ct)])
_weigh_p = define("dnas_weigh", _reference_weigh)
_unstack_p = define("dnas_unstack", _reference_unstack, multiple_results=True)
_stack_p = define("dnas_stack", _reference_stack)
ad.defbilinear(_weigh_p, _weigh_images, _weigh_weights)
ad.primitive_jvps[_stack_p] = _derivative_of_stack
ad.primitive_transposes[_stack_p] = _transpose_stack
ad.primitive_jvps[_unstack_p] = _derivative_of_unstack
ad.primitive_transposes[_unstack_p] = _transpose_unstack
batching.primitive_batchers[_weigh_p] = _batch_weigh
for _primitive in (_pin_p, _stack_p, _unstack_p):
    batching.primitive_batchers[_primitive] = _batch_leading(_primitive)
