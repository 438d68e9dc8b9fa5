"""Compiled programs, kept by what they compute.

JAX keeps a compiled function with the function object. A search makes its functions anew each
time, so the second of two equal searches would be compiled again, and the closures of both would
stay in memory. Here a program is known by the text that XLA compiles: equal searches share it,
and nothing but the executable is kept.
"""

import collections
import hashlib
import threading
from collections.abc import Callable
from typing import Any

import jax

KEPT = 8  # programs; the least recently used one goes first

# By a digest of what is computed, and by the structures of arguments and results, which an
# executable checks or makes.
_Identity = tuple[str, Any, Any]
_programs: collections.OrderedDict[_Identity, jax.stages.Compiled] = collections.OrderedDict()
_lock = threading.Lock()


def once(function: Any, about: str = "") -> Callable[..., Any]:
    """Compiles a function, unless an equal program is at hand.

    Args:
      function: what `jax.jit` or `jax.pmap` made.
      about: what the program's text does not tell and a program depends on, such as the devices
        and the options of the compiler.

    Returns:
      The function. It traces at the first call with arguments of a shape and compiles at most
      then. It takes arrays alone, by position.
    """
    compiled: dict[Any, jax.stages.Compiled] = {}

    def call(*args):
        signature = jax.tree.structure(args), *map(_spell, jax.tree.leaves(args))
        if signature not in compiled:
            compiled[signature] = _compiled(function.lower(*args), about)
        return compiled[signature](*args)

    return call


def forget() -> None:
    """Drops all programs, as `jax.clear_caches` does with what JAX keeps."""
    with _lock:
        _programs.clear()


def _spell(array: Any) -> tuple:
    return array.shape, array.dtype


def _compiled(lowered: jax.stages.Lowered, about: str) -> jax.stages.Compiled:
    text = "\0".join((jax.default_backend(), about, lowered.as_text()))
    identity = hashlib.sha256(text.encode()).hexdigest(), lowered.in_tree, lowered.out_tree
    with _lock:
        if identity not in _programs:
            _programs[identity] = lowered.compile()
        _programs.move_to_end(identity)
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
        return _programs[identity]
