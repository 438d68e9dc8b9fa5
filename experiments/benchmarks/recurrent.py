r"""Tokens per second of recurrent networks, beside the cell of DARTS in eager PyTorch.

    python -m experiments.benchmarks.recurrent --reference=torch

A step is the gradient of the loss of a window in all weights, and in alphas where the cell is
mixed, without dropout. Both sides start from the same weights, and take steps in turn in one
process. First their losses and gradients are compared.
"""

import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import nnx

from dnas.gradient.skeleton import merge
from dnas.spaces import Recurrent, recurrent_networks
from dnas.tasks import LanguageModelling

_REFERENCE = flags.DEFINE_enum("reference", "none", ["none", "torch"], "What to compare with.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps of each side.")
_CASES = flags.DEFINE_multi_string("case", ["search", "train"], "search: mixed; train: discrete.")
_CLOCK = flags.DEFINE_enum(
    "clock", "wall", ["wall", "cpu"], "cpu: of the process, where others use the machine, too."
)
_BATCH = flags.DEFINE_integer("batch", None, "Rows of a batch; as published by default.")
_TEXT = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), "
    "('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)
# Width, batch and window as published, of 10,000 words.
_SIZES = {"search": (300, 256, 35), "train": (850, 64, 35)}
_VOCABULARY = 10_000


def sizes(case: str) -> tuple[int, int, int]:
    """Width, rows of a batch, and tokens of a window."""
    channels, batch, length = _SIZES[case]
    return channels, _BATCH.value or batch, length


def make(case: str):
    """Our step, the arguments it takes, and what PyTorch needs to do the same."""
    channels, batch, length = sizes(case)
    space = Recurrent(channels=channels)
    task = LanguageModelling(_VOCABULARY, length)
    rngs = nnx.Rngs(0)
    genotype = space.parse(_TEXT)
    net = (
        space.supernet(task, rngs=rngs)
        if case == "search"
        else space.network(genotype, task, rngs=rngs)
    )
    nodes = net.nodes if isinstance(net, recurrent_networks.Network) else None
    graph, params = nnx.split(net, nnx.Param)
    params = nnx.to_pure_dict(params)
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, _VOCABULARY, (2, batch, length), dtype=np.int32)
    alphas = 1e-3 * rng.normal(size=(36, 5)).astype(np.float32)

    def loss(params, alphas, carry, tokens, targets):
        net = merge(graph, params)
        if case == "search":
            outputs, carry = net((tokens, carry), {"recurrent": jax.nn.softmax(alphas)})
        else:
            output, carry = net((tokens, carry))
            outputs = output.logits
        return task.loss(outputs, targets)[0], carry

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    arguments = params, jnp.asarray(alphas), space.initial_carry(batch), tokens, targets
    arrays = {
        "embedding": params["head"]["embedding"],
        "bias": params["head"]["bias"],
        "entry": params["entry"],
        "kernels": params["kernels"],
    }
    return lambda: step(*arguments), arguments, arrays, nodes


def reference(arguments, arrays, nodes):
    """PyTorch's step."""
    import torch

    from experiments.benchmarks import recurrent_torch

    _, alphas, carry, tokens, targets = arguments
    options = Recurrent().operations
    net = recurrent_torch.Recurrent(arrays, nodes, options)
    mix = torch.from_numpy(np.array(alphas)).requires_grad_() if nodes is None else None
    state = torch.from_numpy(np.array(carry))
    tokens, targets = (torch.from_numpy(x.T.astype(np.int64).copy()) for x in (tokens, targets))

    def step():
        net.zero_grad()
        if mix is not None:
            mix.grad = None
        loss = recurrent_torch.loss(net, tokens, targets, state, mix)
        loss.backward()
        kernels = torch.stack([k.grad for k in net.kernels])
        return loss.item(), {"entry": net.entry.grad, "kernels": kernels}

    return step


def _waiting(step):
    """Our step, until its numbers are there."""
    return jax.block_until_ready(step())


def check(ours, theirs) -> str:
    """How far the two sides are apart, relative to the largest gradient."""
    (loss, _), (gradient, _) = ours
    other, gradients = theirs
    apart = max(
        float(np.abs(np.asarray(gradient[name]) - x.numpy()).max() / np.abs(x.numpy()).max())
        for name, x in gradients.items()
    )
    return (
        f"losses {float(loss):.6f} and {other:.6f}, gradients apart by {apart:.1e} of the largest"
    )


def main(argv):
    """Prints a table."""
    del argv
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[_CLOCK.value]
    rows = ["| case | side | first, s | step, s | tokens/s | ratio |", "|---|---|---|---|---|---|"]
    for case in _CASES.value:
        step, arguments, arrays, nodes = make(case)
        sides: dict[str, Callable] = {"ours": functools.partial(_waiting, step)}
        if _REFERENCE.value == "torch":
            sides["torch (eager)"] = reference(arguments, arrays, nodes)
        firsts, found = {}, {}
        for side, run in sides.items():
            began = clock()
            found[side] = run()
            firsts[side] = clock() - began
        if len(sides) > 1:
            print(f"{case}: {check(*found.values())}")
        seconds = {side: [] for side in sides}
        for _ in range(_STEPS.value):
            for side, run in sides.items():
                began = clock()
                run()
                seconds[side].append(clock() - began)
        channels, batch, length = sizes(case)
        base = statistics.median(seconds["ours"])
        for side, all_of in seconds.items():
            middle = statistics.median(all_of)
            name = f"{case}, {channels} wide, {batch} x {length} tokens" if side == "ours" else ""
            rows.append(
                f"| {name} | {side} | {firsts[side]:.3g} | {middle:.3g} ({min(all_of):.3g}-"
                f"{max(all_of):.3g}) | {batch * length / middle:,.0f} | {middle / base:.3g} |"
            )
    print("\n".join(rows))


if __name__ == "__main__":
    app.run(main)
