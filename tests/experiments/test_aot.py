"""Compiled programs are read right, failures are told, and small steps compile for GPUs and TPUs.

What compiles skips where the compilers are not installed: pip install -e '.[aot]', or make aot.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from experiments.benchmarks import aot, hlo
from experiments.benchmarks.compilers import process, program, targets
from experiments.benchmarks.settings import Settings

GPU = """\
HloModule jit_run

%fused (p: f32[8], k: f32[3,3,8,8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %k = f32[3,3,8,8]{3,2,1,0} parameter(1)
  ROOT %twice = f32[8]{0} add(%p, %p)
}

%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %f = f32[8]{0} fusion(%x, %x), kind=kLoop, calls=%fused
  %g = f32[8]{0} fusion(%f), kind=kCustom, calls=%fused, \
backend_config={"fusion_backend_config":{"kind":"__triton_nested_gemm_fusion"}}
  %c = (f32[8]{0}, u8[0]{0}) custom-call(%f), custom_call_target="__cudnn$convForward"
  %y = f32[8]{0} get-tuple-element(%c), index=0
  %started = f32[8]{0} all-reduce-start(%y), to_apply=%add
  %summed = f32[8]{0} all-reduce-done(%started)
  ROOT %out = (s32[], f32[8]{0}) tuple(%n, %summed)
}

%wrapped (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} custom-call(%q), custom_call_target="__cublas$gemm"
}

ENTRY %main (a: s32[], b: f32[8]) -> f32[8] {
  %a = s32[] parameter(0)
  %b = f32[8]{0} parameter(1)
  %all = (s32[], f32[8]{0}) tuple(%a, %b)
  %loop = (s32[], f32[8]{0}) while(%all), condition=%some, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %last = f32[8]{0} get-tuple-element(%loop), index=1
  %begun = ((f32[8]{0}), f32[8]{0}) async-start(%last), calls=%wrapped
  %ended = f32[8]{0} async-done(%begun)
  ROOT %result = f32[8]{0} copy(%ended)
}
"""

TPU = """\
HloModule jit_run

%deep (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(128)} parameter(0)
  ROOT %y = f32[8]{0:T(128)} convolution(%p, %p), window={size=1}
}

%outer (p: f32[8]) -> f32[] {
  %p = f32[8]{0:T(128)} parameter(0)
  %y = f32[8]{0:T(128)} fusion(%p), kind=kOutput, calls=%deep
  ROOT %r = f32[]{:T(128)} reduce(%y, %p), dimensions={0}, to_apply=%add
}

%sum (p: f32[8]) -> f32[] {
  %p = f32[8]{0:T(128)} parameter(0)
  ROOT %r = f32[]{:T(128)} reduce(%p, %p), dimensions={0}, to_apply=%add
}

%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %n = s32[]{:T(128)} get-tuple-element(%t), index=0
  %x = f32[8]{0:T(128)} get-tuple-element(%t), index=1
  %f = f32[8]{0:T(128)} fusion(%x), kind=kOutput, calls=%outer, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  %s = f32[]{:T(128)} fusion(%f), kind=kLoop, calls=%sum, \
backend_config={"window_config":{"estimated_cycles":"10"}}
  ROOT %out = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%n, %f)
}

%under (t: (s32[], f32[8])) -> pred[] {
  %most = s32[]{:T(128)} constant(7)
  %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %n = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%n, %most), direction=LT
}

ENTRY %main (b: f32[8]) -> f32[8] {
  %b = f32[8]{0:T(128)} parameter(0)
  %first = s32[]{:T(128)} constant(START)
  %moved = s32[]{:T(128)} copy(%first)
  %room = f32[8]{0:T(128)} custom-call(), custom_call_target="AllocateBuffer"
  %all = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%moved, %b)
  %loop = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%all), condition=%under, body=%body
  %last = f32[8]{0:T(128)} get-tuple-element(%loop), index=1
  ROOT %result = f32[8]{0:T(128)} copy(%last), \
backend_config={"window_config":{"estimated_cycles":"1"}}
}
"""


def test_launches_count_loops_and_know_libraries():
    found = program.launches(hlo.parse(GPU))
    assert found == {"fusions": 5, "convolutions": 5, "products": 5 + 1, "other": 1}


def test_remarks_of_the_tpu_compiler_are_no_launches():
    found = program.launches(hlo.parse(TPU.replace("START", "0")))
    assert found == {"fusions": 2 * 7, "other": 2}


def test_collectives_are_counted_once_with_what_they_send():
    assert program.collectives(hlo.parse(GPU)) == (5, 5 * 32)
    assert program.collectives(hlo.parse(TPU.replace("START", "0"))) == (0, 0)


@pytest.mark.parametrize(("start", "turns"), [("0", 7), ("3", 4), ("9", 0)])
def test_cycles_count_loops_by_their_condition(start, turns):
    found = program.cycles(hlo.parse(TPU.replace("START", start)))
    expected = {"convolutions": 100 * turns, "reductions": 10 * turns, "moves": 1}
    assert found == {kind: n for kind, n in expected.items() if n or turns == 0}
    assert not program.cycles(hlo.parse(GPU))


def test_a_loop_of_unknown_length_counts_once():
    text = TPU.replace("s32[]{:T(128)} constant(START)", "s32[]{:T(128)} iota()")
    assert program.cycles(hlo.parse(text))["convolutions"] == 100


FATAL = """\
WARNING: something
F1130 07:53:20.624321   25553 triton_tiling.cc:627] Check failed: a == b (256 vs. 32) \n\
*** Check failure stack trace: ***
    @     0x7fa4cab46539  xla::gpu::triton_fusion::GetPropagated()
    @     0x7fa4d4faf7a5  xla::HloInstruction::Accept<>()
    @     0x7fa4ca90e3c6  xla::gpu::GemmFusion::RunImpl()
    @     0x7fa4d4c7d15d  xla::HloPassInterface::Run()
    @     0x7fa4d3b00308  xla::HloPassPipeline::RunImpl()
"""


def test_failures_are_told():
    told = process.why(-signal.SIGABRT, FATAL)
    assert told == (
        "SIGABRT, pass GemmFusion, triton_tiling.cc:627 Check failed: a == b (256 vs. 32)"
    )
    assert process.why(-signal.SIGXCPU, "") == "over the limit of time"
    raised = "Traceback\nValueError: no\n\njax.errors.JaxRuntimeError: INTERNAL: bad\n"
    assert process.why(1, raised) == "exit code 1, JaxRuntimeError: INTERNAL: bad"


def test_rows_have_all_columns():
    label = Settings().label()
    good = process.Compiled(
        *(9.0, "", 1.0, 2.0, 1_500_000, 2_000_000, 0),
        {"fusions": 3, "other": 4},
        (2, 6_740_000),
        {"moves": 2_000_000},
    )
    for compiled in (good, process.Compiled(3.0, "compiling: SIGABRT, a | b")):
        assert aot.row(label, "h100:1", compiled).count("|") == len(aot.columns()) + 1
    shown = aot.row(label, "h100:1", good)
    assert "| 1.5 / 2 / 0 | 7: 4 other, 3 fusions | 2, 6.74 MB | 2: 2 moves |" in shown


def test_targets_by_name():
    assert targets.parse("h100") == targets.Target("h100", (1,))
    assert targets.parse("v5e:4x8").chips == 32
    assert str(targets.parse("v5p")) == "v5p:1x1x1"
    for wrong in ("", "a100", "h100:", "h100:0", "h100:2x2", "v5e:4", "v5p:2x2", "v5e:axb"):
        with pytest.raises(ValueError, match="expected one of h100"):
            targets.parse(wrong)


# What follows asks the compilers.


def compiler(chip):
    """Skips without the compiler of a chip."""
    module = "jax_cuda13_plugin" if chip in targets.GPUS else "libtpu"
    found = importlib.util.find_spec(module) is not None
    reason = f"no {module}: pip install -e '.[aot]', or make aot"
    return pytest.param(chip, marks=pytest.mark.skipif(not found, reason=reason))


REDUCTION = """
import jax, jax.numpy as jnp, numpy as np, types
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from dnas.nn.kernels.conv import conv
from dnas.nn.supernet.fused import FusedReduction
from experiments.benchmarks.compilers import targets

target = targets.parse({target!r})
place = NamedSharding(Mesh(np.array(target.devices()), "x"), PartitionSpec())

def loss(kernels, kernel, x, ct):
    reduced = FusedReduction.__call__(types.SimpleNamespace(kernels={{...: kernels}}), x)
    return (reduced * ct).sum() + jnp.sin(conv(jax.nn.relu(x), kernel, stride=2)).sum()

shapes = (2, 8, 1, 4), (3, 3, 8, 8), (8, 8, 8, 8), (8, 4, 4, 1, 8)
arrays = [jax.ShapeDtypeStruct(s, jnp.{dtype}, sharding=place) for s in shapes]
gradient = jax.jit(jax.grad(loss, (0, 1)))
gradient.trace(*arrays).lower(lowering_platforms=(target.platform,)).compile()
"""


@pytest.mark.slow
@pytest.mark.parametrize("chip", [compiler("h100"), compiler("v5e")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_reductions_beside_convolutions_compile(chip, dtype):
    """XLA's GPU compiler (0.10.2) aborts where reductions take pixels by strided slices."""
    script = textwrap.dedent(REDUCTION).format(target=chip, dtype=dtype)
    environment = os.environ | process.ENVIRONMENT
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, process.why(done.returncode, done.stderr)


SMALL = Settings(channels=2, cells=1, batch=4, size=8)


@pytest.mark.slow
@pytest.mark.parametrize("chip", [compiler("h100"), compiler("v5e")])
def test_a_small_step_compiles(chip):
    compiled = process.measure(SMALL, targets.parse(chip), limit=600)
    assert not compiled.failure
    assert compiled.launches["fusions"] > 100
    assert compiled.launches.get("custom", 0) == 0  # no native kernel of the CPU among them
    assert compiled.collectives == (0, 0)
    assert compiled.arguments > 0 and compiled.temporary > 0
    assert bool(compiled.cycles) == (chip == "v5e")


@pytest.mark.slow
@pytest.mark.parametrize("chip", [compiler("h100")])
def test_compilations_over_their_limit_end(chip):
    compiled = process.measure(SMALL, targets.parse(chip), limit=2)
    assert compiled.failure.endswith("over the limit of time")
