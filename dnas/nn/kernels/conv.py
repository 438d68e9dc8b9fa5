"""Convolutions whose derivatives of every order stay fast on every backend.

`conv` computes what `jax.lax.conv_general_dilated` computes, for NHWC images and HWIO kernels.
The difference lies in its derivatives. JAX writes the two gradients of a convolution with
permuted dimension numbers; XLA:CPU rewrites these into its fast form at the top level of a
program but not inside of loops, where they run 20 to 40 times slower. Here a convolution is a
bilinear primitive, the gradient of its kernel is a second one, and the transposes of both are
these two again, in canonical layout: gradients, forward mode and Hessian-vector products keep
their speed in scanned cells. On a CPU both run as native kernels where `dnas.nn.kernels.native` has
them.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching

from dnas.nn.kernels.primitives import broadcast, define, divide, join
from dnas.nn.kernels.window import Pair, Window, centred


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    groups: int = 1,
) -> jax.Array:
    """Convolves images with a kernel.

    Args:
      x: images ``[batch, height, width, channels_in]``.
      kernel: ``[kernel_height, kernel_width, channels_in / groups, channels_out]``.
      stride: step between outputs, both ways.
      dilation: step between the kernel's taps, both ways.
      padding: rows and columns of zeros on each side; by default as many as keep height and
        width at stride 1 for odd kernels.
      groups: inputs and outputs are divided into so many groups that do not see each other.

    Returns:
      ``[batch, out_height, out_width, channels_out]``, in the dtype of `x`.
    """
    window = centred(kernel.shape[:2], stride, dilation, padding)
    return _conv_p.bind(x, kernel.astype(x.dtype), window=window, groups=groups)


def lax_conv(x: jax.Array, kernel: jax.Array, *, window: Window, groups: int) -> jax.Array:
    """The convolution as JAX has it."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        window.spread,
        window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _lax_conv_kernel(x, ct, *, window: Window, groups: int, size: Pair):
    if size == (1, 1) and window == centred(size, 1, window.dilation[0]):
        # A matrix product; 8 times faster than XLA:CPU's convolution (16 channels, 32x32).
        x, ct = (a.reshape(*a.shape[:3], groups, -1) for a in (x, ct))
        return jnp.einsum("bhwgi,bhwgo->igo", x, ct).reshape(1, 1, x.shape[-1], -1)
    if groups > 1:
        shape = (*size, x.shape[-1] // groups, ct.shape[-1])
        product = functools.partial(lax_conv, x, window=window, groups=groups)
        return jax.linear_transpose(product, jax.ShapeDtypeStruct(shape, x.dtype))(ct)[0]
    # The images' batch is summed over as if it were their channels.
    turned = window.for_kernel(x.shape[1:3], size, ct.shape[1:3])
    out = lax_conv(x.transpose(3, 1, 2, 0), ct.transpose(1, 2, 0, 3), window=turned, groups=1)
    return out.transpose(1, 2, 0, 3)


def _images(ct, kernel, image: Pair, *, window: Window, groups: int):
    """Cotangent of the images: stride and spread change places, the kernel is turned."""
    turned = jnp.flip(kernel, (0, 1)).reshape(*kernel.shape[:3], groups, -1)
    turned = jnp.moveaxis(turned, 2, -1)  # [height, width, groups, outputs, inputs]
    turned = jnp.moveaxis(turned, 2, 3).reshape(*kernel.shape[:2], turned.shape[3], -1)
    window = window.for_images(image, kernel.shape[:2], ct.shape[1:3])
    return _conv_p.bind(ct, turned, window=window, groups=groups)


def _conv_images(ct, x, kernel, **params):
    return _images(ct, kernel, x.aval.shape[1:3], **params)


def _conv_kernel(ct, x, kernel, **params):
    return _kernel_p.bind(x, ct, size=kernel.aval.shape[:2], **params)


def _kernel_images(ct, x, y, *, size, **params):
    del size
    return _images(y, ct, x.aval.shape[1:3], **params)


def _kernel_outputs(ct, x, y, *, size, **params):
    del y, size
    return _conv_p.bind(x, ct, **params)


def _batch_conv(args, dims, *, window, groups):
    """A batch of images joins theirs; a batch of kernels is one of groups."""
    if dims[1] is None:
        x = jnp.moveaxis(args[0], dims[0], 0)
        out = _conv_p.bind(x.reshape(-1, *x.shape[2:]), args[1], window=window, groups=groups)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0
    if dims[0] is None and groups == 1:
        kernel = join(jnp.moveaxis(args[1], dims[1], 0))
        out = _conv_p.bind(args[0], kernel, window=window, groups=1)
        return divide(out, args[1].shape[dims[1]]), out.ndim - 1
    (x, kernel), count = broadcast(args, dims)
    out = _conv_p.bind(join(x), join(kernel), window=window, groups=groups * count)
    return divide(out, count), out.ndim - 1


def _batch_kernel(args, dims, *, groups, **params):
    """A batch of images or cotangents is one of groups."""
    (x, ct), count = broadcast(args, dims)
    out = _kernel_p.bind(join(x), join(ct), groups=groups * count, **params)
    return divide(out, count), out.ndim - 1


_conv_p = define("dnas_conv", lax_conv)
_kernel_p = define("dnas_conv_kernel", _lax_conv_kernel)
ad.defbilinear(_conv_p, _conv_images, _conv_kernel)
ad.defbilinear(_kernel_p, _kernel_images, _kernel_outputs)
batching.primitive_batchers[_conv_p] = _batch_conv
batching.primitive_batchers[_kernel_p] = _batch_kernel
