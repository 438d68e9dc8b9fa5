"""From a node to the edges that leave it, and back.

Cotangents of edges are stacked and added up here. XLA:CPU writes the stack as a sum of padded
arrays, which takes a tenth of a step of NAS-Bench-201 where the copy takes a hundredth, and needs
three passes for the gradient of weights.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching

from dnas.nn.kernels import depthwise
from dnas.nn.kernels.primitives import broadcast, define, divide, join


def weigh(x: jax.Array, weights: jax.Array) -> jax.Array:
    """An image for each edge: ``x * weights``.

    Args:
      x: ``[batch, height, width, channels]``.
      weights: ``[edges]``.

    Returns:
      ``[batch, height, width, edges, channels]``.
    """
    return _weigh_p.bind(x, weights.astype(x.dtype)[:, None])


def unstack(x: jax.Array) -> Sequence[jax.Array]:
    """The images of all edges, each ``[..., channels]``, of ``[..., edges, channels]``."""
    return _unstack_p.bind(x)


def pin(x: jax.Array) -> jax.Array:
    """`x` itself, stored.

    XLA:CPU computes a sum once more for every reader of it: that of a node for the node and for
    its ReLU. Stored, these sums take 0.2 s of a NAS-Bench-201 step instead of 0.4.
    """
    return _pin_p.bind(x)


# Each of the following takes two of: images x, a cotangent y of all edges, and weights [edges,
# groups] of groups of channels; it is linear in both. Their transposes are each other. There is one
# group, unless a batch of weights was joined to the channels.


def _reference_weigh(x, weights):
    return x[..., None, :] * jnp.repeat(weights, x.shape[-1] // weights.shape[1], 1)


def _reference_fold(y, weights):
    return jnp.einsum("...ec,ec->...c", y, jnp.repeat(weights, y.shape[-1] // weights.shape[1], 1))


def _reference_products(x, y, *, groups: int):
    return jnp.einsum("...c,...ec->ec", x, y).reshape(y.shape[-2], groups, -1).sum(-1)


def _reference_unstack(x):
    return [x[..., edge, :] for edge in range(x.shape[-2])]


def _reference_stack(*images):
    return jnp.stack(images, -2)


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


def _batch_fold(args, dims):
    """A batch of images joins theirs; one of weights, the channels."""
    if dims[1] is None:
        y = jnp.moveaxis(args[0], dims[0], 0)
        out = _fold_p.bind(y.reshape(-1, *y.shape[2:]), args[1])
        return out.reshape(*y.shape[:2], *out.shape[1:]), 0
    (y, weights), count = broadcast(args, dims)
    out = _fold_p.bind(join(y), join(weights))
    return divide(out, count), out.ndim - 1


def _batch_products(args, dims, *, groups):
    """A batch joins the channels."""
    (x, y), count = broadcast(args, dims)
    out = _products_p.bind(join(x), join(y), groups=count * groups)
    return divide(out, count), out.ndim - 1


def _reference_pin(x):
    return x


_pin_p = define("dnas_pin", _reference_pin)
ad.deflinear2(_pin_p, lambda ct, x: [_pin_p.bind(ct)])
_weigh_p = define("dnas_weigh", _reference_weigh)
_fold_p = define("dnas_fold", _reference_fold, native=depthwise.fold)
_products_p = define("dnas_products", _reference_products, native=depthwise.products)
_unstack_p = define("dnas_unstack", _reference_unstack, multiple_results=True)
_stack_p = define("dnas_stack", _reference_stack)
ad.defbilinear(
    _weigh_p,
    lambda ct, x, weights: _fold_p.bind(ct, weights),
    lambda ct, x, weights: _products_p.bind(x, ct, groups=weights.aval.shape[1]),
)
ad.defbilinear(
    _fold_p,
    lambda ct, y, weights: _weigh_p.bind(ct, weights),
    lambda ct, y, weights: _products_p.bind(ct, y, groups=weights.aval.shape[1]),
)
ad.defbilinear(
    _products_p,
    lambda ct, x, y, groups: _fold_p.bind(y, ct),
    lambda ct, x, y, groups: _weigh_p.bind(x, ct),
)
ad.primitive_jvps[_stack_p] = _derivative_of_stack
ad.primitive_transposes[_stack_p] = _transpose_stack
ad.primitive_jvps[_unstack_p] = _derivative_of_unstack
ad.primitive_transposes[_unstack_p] = _transpose_unstack
batching.primitive_batchers[_weigh_p] = _batch_weigh
batching.primitive_batchers[_fold_p] = _batch_fold
batching.primitive_batchers[_products_p] = _batch_products
for _primitive in (_pin_p, _stack_p, _unstack_p):
    batching.primitive_batchers[_primitive] = _batch_leading(_primitive)
