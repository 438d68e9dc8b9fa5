"""The benchmark compares equal networks and counts what is there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from dnas import space as spaces
from dnas.nn.kernels.conv import conv
from dnas.nn.kernels.separable import separable
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification
from experiments.benchmarks import roofline
from experiments.benchmarks import settings as benchmark
from experiments.benchmarks.step import alternate
from experiments.benchmarks.traffic import traffic

SMALL = {"nas_bench_201": NASBench201(4, 1, stages=2), "darts": DARTS(4, 3, nodes=2)}


@pytest.fixture
def torch_reference():
    pytest.importorskip("torch", reason="install dnas[benchmark]")
    from experiments.benchmarks import torch_reference

    return torch_reference


@pytest.mark.parametrize("space", [NASBench201(), DARTS(), NASBench201(4, 2), DARTS(6, 4)])
def test_reference_has_as_many_weights(torch_reference, space):
    task = Classification((32, 32, 3), 10)
    state = nnx.state(nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0))), nnx.Param)
    ours = sum(x.size for x in jax.tree.leaves(state))
    theirs = torch_reference.supernet(space, 3, 10)
    assert sum(w.numel() for w in theirs.parameters()) == ours


def assign(parameter, value):
    """Gives a PyTorch parameter a JAX array, HWIO kernels as OIHW."""
    import torch

    value = np.asarray(value)
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    assert parameter.shape == value.shape
    parameter.data = torch.from_numpy(value.copy())


def assign_norm(theirs, ours):
    assign(theirs.weight, ours.scale[...])
    assign(theirs.bias, ours.shift[...])


def assign_factorized(theirs, kernels):
    assign(theirs.first.weight, kernels[0][None, None])
    assign(theirs.second.weight, kernels[1][None, None])


def assign_cell(theirs, ours, names):
    for e, (i, _) in enumerate(ours.edges):
        source = ours.sources[i]
        position = [f for f, (k, _) in enumerate(ours.edges) if k == i].index(e)
        for name, module in zip(names, theirs.edges[e], strict=True):
            if name.startswith("nor_conv"):
                kernel = source.operations[name].kernel[...]
                assign(module[1].weight, kernel[..., position, :])
            elif "sep" in name or "dil" in name:
                halves, operation = list(module) if "sep" in name else [module], None
                operation = source.operations[name]
                for k, half in enumerate(halves):
                    depthwise = operation.depthwise[k][...][..., position]
                    assign(half[1].weight, depthwise[:, :, None])
                    assign(half[2].weight, operation.pointwise[k][...][None, None, :, position])
            elif list(module.parameters()):  # a skip connection of stride 2
                kernels = source.operations[name].kernels[...]
                assign_factorized(module, kernels[:, :, position])


def assign_nas_bench_201(theirs, ours, space):
    assign(theirs.stem[0].weight, ours.stem.kernel[...])
    assign_norm(theirs.stem[1], ours.stem_norm)
    layers = iter(theirs.layers)
    for stage in range(space.stages):
        if stage:
            block, mine = next(layers), ours.reductions[stage - 1]
            for a, b in ((block.first, mine.first), (block.second, mine.second)):
                assign(a[1].weight, b.conv.kernel[...])
                assign_norm(a[2], b.norm)
            assign(block.shortcut[1].weight, mine.shortcut.kernel[...])
        for cell in reference.unstack(ours.stages[stage]):
            assign_cell(next(layers), cell, space.operations)
    assign_norm(theirs.last_norm, ours.last_norm)


def assign_darts(theirs, ours, space):
    assign(theirs.stem[0].weight, ours.stem.convs[0].kernel[...])
    assign_norm(theirs.stem[1], ours.stem.norms[0])
    layers = zip(theirs.first, theirs.second, theirs.cells, strict=True)
    for run in ours.runs:
        for i, cell in enumerate(reference.unstack(run.stack)):
            first, second, inside = next(layers)
            kernel = run.older[i][...]
            if kernel.ndim == 3:
                assign_factorized(first, kernel)
            else:
                assign(first[1].weight, kernel[None, None])
            assign(second[1].weight, run.newer[i][...][None, None])
            assign_cell(inside, cell.graph, space.operations)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_reference_has_the_same_logits(torch_reference, name):
    import torch

    space = SMALL[name]
    ours = space.supernet(Classification((8, 8, 3), 5), rngs=nnx.Rngs(0))
    graph, params = nnx.split(ours)
    # Scales and shifts start at one and zero: others show where they are.
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(x + 0.1 * rng.normal(size=x.shape), x.dtype), params
    )
    ours = nnx.merge(graph, params)
    theirs = torch_reference.supernet(space, 3, 5)
    {"nas_bench_201": assign_nas_bench_201, "darts": assign_darts}[name](theirs, ours, space)
    theirs.classifier.weight.data = torch.from_numpy(np.array(ours.classifier.kernel[...].T))
    theirs.classifier.bias.data = torch.from_numpy(np.array(ours.classifier.bias[...]))

    x = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    alphas = spaces.initial_alphas(space.decisions, jax.random.key(2), scale=1.0)
    mix = {table: jax.nn.softmax(a) for table, a in alphas.items()}
    mine = jax.jit(lambda p, x: nnx.merge(graph, p)(x, mix))(params, x)
    images = torch.from_numpy(np.array(x.transpose(0, 3, 1, 2)))
    other = theirs(images, {t: torch.from_numpy(np.array(w)) for t, w in mix.items()})
    assert jnp.abs(mine).max() > 0.1
    np.testing.assert_allclose(mine, other.detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"relaxation": "gumbel"}, {"second_order": True}])
def test_reference_step_moves_weights_and_alphas(torch_reference, settings):
    search = torch_reference.Search(SMALL["nas_bench_201"], 3, 5, **settings)
    weights = [w.detach().clone() for w in search.weights]
    alphas = search.alphas["cell"].detach().clone()
    rng = np.random.default_rng(0)
    train, valid = (
        search.batch(rng.normal(size=(8, 8, 8, 3)).astype("float32"), rng.integers(0, 5, 8))
        for _ in range(2)
    )
    first, second = search.step(train, valid), search.step(train, valid)
    assert np.isfinite(second)
    assert second < first or search.relaxation == "gumbel"  # which draws another network
    assert all((w != old).any() for w, old in zip(search.weights, weights, strict=True))
    # Adam's first two steps are of the learning rate, where the gradient is not zero.
    moved = (search.alphas["cell"] - alphas).abs()
    assert 1e-5 < moved.max() <= 2.1 * 3e-4


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_flops_are_those_of_xla(stride, dilation):
    def plain(x, kernel):
        return reference.conv(x, kernel, stride, dilation)

    x, kernel = jnp.ones((2, 9, 8, 5)), jnp.ones((3, 3, 5, 7))
    theirs = jax.jit(plain).lower(x, kernel).cost_analysis()["flops"]
    ours = roofline.flops(jax.make_jaxpr(plain)(x, kernel))
    assert ours == theirs
    mine = jax.make_jaxpr(lambda x, k: conv(x, k, stride=stride, dilation=dilation))(x, kernel)
    assert roofline.flops(mine) == theirs


def test_flops_of_gradients_and_loops():
    x, kernel = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 4, 4))
    taps = (3 * 6 - 2) ** 2
    once = 2 * 2 * 4 * 4 * taps

    def loss(x, kernel):
        return jax.lax.scan(lambda x, _: (conv(x, kernel), None), x, None, length=3)[0].sum()

    assert roofline.flops(jax.make_jaxpr(loss)(x, kernel)) == 3 * once
    gradients = jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel)
    assert roofline.flops(gradients) == 3 * 3 * once  # forward, images, kernel


def test_flops_of_separable_convolutions():
    from dnas.nn.kernels import native

    x, depthwise, pointwise = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 4, 5)), jnp.ones((4, 5, 4))
    taps = (3 * 6 - 2) ** 2
    once = 2 * 2 * 5 * 4 * (taps + 36 * 4 if native.ready() else 4 * taps)
    assert roofline.flops(jax.make_jaxpr(separable)(x, depthwise, pointwise)) == once
    gradient = jax.grad(lambda *args: separable(*args).sum(), (0, 1, 2))
    assert roofline.flops(jax.make_jaxpr(gradient)(x, depthwise, pointwise)) == 3 * once


def test_a_switch_counts_the_mean_of_its_branches():
    x = jnp.ones((4, 4))
    branches = [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x]
    jaxpr = jax.make_jaxpr(lambda i, x: jax.lax.switch(i, branches, x))(1, x)
    assert roofline.flops(jaxpr) == 2 * 4**3


HLO = """
HloModule small

%slice_of (p: f32[5,8], i: s32[]) -> f32[8] {
  %p = f32[5,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %cut = f32[1,8]{1,0} dynamic-slice(%p, %i, %zero), dynamic_slice_sizes={1,8}
  ROOT %flat = f32[8]{0} bitcast(%cut)
}

%body (t: (s32[], f32[8], f32[5,8])) -> (s32[], f32[8], f32[5,8]) {
  %t = (s32[], f32[8]{0}, f32[5,8]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %c = f32[8]{0} get-tuple-element(%t), index=1
  %xs = f32[5,8]{1,0} get-tuple-element(%t), index=2
  %row = f32[8]{0} fusion(%xs, %n), kind=kLoop, calls=%slice_of
  %kernel = f32[8]{0} custom-call(%c, %row), custom_call_target="dnas_conv"
  ROOT %out = (s32[], f32[8]{0}, f32[5,8]{1,0}) tuple(%n, %kernel, %xs)
}

ENTRY %main (a: s32[], b: f32[8], d: f32[5,8]) -> f32[8] {
  %a = s32[] parameter(0)
  %b = f32[8]{0} parameter(1)
  %d = f32[5,8]{1,0} parameter(2)
  %all = (s32[], f32[8]{0}, /*index=2*/f32[5,8]{1,0}) tuple(%a, %b, %d)
  %loop = (s32[], f32[8]{0}, f32[5,8]{1,0}) while(%all), condition=%other, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %last = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def test_traffic_of_a_loop():
    # A turn reads a row and the loop's number and writes the row; then reads two and writes one.
    assert traffic(HLO) == 5 * (32 + 4 + 32 + 3 * 32)


def test_traffic_of_a_compiled_product():
    x = jnp.ones((64, 64))
    compiled = jax.jit(lambda x, y: x @ y).lower(x, x).compile()
    assert traffic(compiled.as_text()) == 3 * 64 * 64 * 4


def test_traffic_wants_a_program():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        traffic("nothing")


def test_the_bound_is_the_slower_one():
    machine = roofline.Machine(flops=100.0, bytes=10.0)
    assert roofline.bound(200.0, 10.0, machine) == (2.0, "compute")
    assert roofline.bound(200.0, 30.0, machine) == (3.0, "memory")


def test_sides_take_turns():
    calls = []
    sides = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "ab"}
    assert alternate(sides, 2, pause=0.0) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert calls == list("ababab")


def test_settings():
    with pytest.raises(ValueError, match="expected 'gumbel'"):
        benchmark.Settings(single_path=True)
    with pytest.raises(ValueError, match="hypergradient='third'"):
        benchmark.Settings(hypergradient="third")
    space = benchmark.Settings(channels=8, cells=2, relaxation="gumbel", single_path=True)
    assert space.make_space() == NASBench201(8, 2, mixing=spaces.Mixing(single_path=True))


@pytest.mark.slow
def test_our_side_takes_steps():
    ours = benchmark.Ours(benchmark.Settings(channels=2, cells=1, size=8, batch=2))
    assert set(ours.compile()) == {"trace", "compile"}
    assert ours.step() > 0 and ours.state.step == 1
    assert roofline.flops(ours.jaxpr) > 0
