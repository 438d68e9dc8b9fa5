"""The loop, with a toy bilevel step. Run as a script, this file is the process to be killed."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.runtime import loop, workdir

pytestmark = pytest.mark.optimised  # as the killed processes that these compare with

PER_EPOCH, EPOCHS, CHUNK = 7, 3, 3  # the last chunk of an epoch is a partial one


class State(NamedTuple):
    weights: jax.Array
    alphas: jax.Array
    key: jax.Array
    step: jax.Array


def first_state():
    key = jax.random.key(3)
    return State(jax.random.normal(key, (4,)), jnp.zeros(4), key, jnp.zeros((), jnp.int32))


def quadratic_step(state, batch):
    """Weights follow the noisy batch, alphas the weights: everything depends on everything."""
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (4,))
    loss, gradient = jax.value_and_grad(lambda w: jnp.sum((w - batch - state.alphas) ** 2))(
        state.weights + 0.1 * noise
    )
    weights = state.weights - 0.05 * gradient
    alphas = state.alphas - 0.1 * (state.alphas - weights + noise)
    return State(weights, alphas, state.key, state.step + 1), {"train": {"loss": loss}}


def make_advance(step):
    @functools.partial(jax.jit, donate_argnums=0)
    def advance(state, batches, count):
        def body(i, carry):
            state, sums = carry
            state, metrics = step(state, batches[i])
            return state, jax.tree.map(jnp.add, sums, metrics)

        shapes = jax.eval_shape(lambda s: step(s, batches[0])[1], state)
        zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, zeros))

    return advance


class ToyFeed:
    """Batch s holds sin(s + [0..3]); before the dispatch that starts at `at`, `act` is called."""

    steps_per_epoch = PER_EPOCH

    def __init__(self, at=None, act=None, spoil=None):
        self.at, self.act, self.spoil = at, act, spoil

    def chunks(self, start, stop, size):
        for first in range(start, stop, size):
            if first == self.at:
                self.act()
            steps = np.minimum(np.arange(first, first + size), stop - 1)
            batches = np.sin(steps[:, None] + np.arange(4.0)).astype(np.float32)
            batches[steps == self.spoil] = np.inf
            yield jnp.asarray(batches), min(size, stop - first)


def run(folder=None, feed=None, advance=None, **options):
    files = workdir.open_workdir(folder, {"seed": 3})
    advance = advance or make_advance(loop.watched(quadratic_step))
    options = {"epochs": EPOCHS, "chunk": CHUNK, "progress": False, "files": files} | options
    return loop.run(first_state(), advance, feed or ToyFeed(), **options)


def assert_same_state(left, right):
    for name in ("weights", "alphas", "step"):
        assert (
            np.asarray(getattr(left, name)).tobytes() == np.asarray(getattr(right, name)).tobytes()
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted, and its metrics.jsonl."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = run(folder)
    return outcome, (folder / "metrics.jsonl").read_text()


def test_the_loop_is_the_plain_loop_and_compiles_once(whole):
    state, means, plain = first_state(), [], jax.jit(quadratic_step)
    for epoch in range(EPOCHS):
        losses = []
        for batches, _ in ToyFeed().chunks(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH, 1):
            state, metrics = plain(state, batches[0])
            losses.append(float(metrics["train"]["loss"]))
        means.append(np.mean(losses))
    advance = make_advance(loop.watched(quadratic_step))
    epochs = []
    outcome = run(
        None, advance=advance, on_epoch=lambda e, s, m: epochs.append((e, int(s.step))) or {"x": e}
    )
    assert_same_state(outcome.state, state)
    assert_same_state(outcome.state, whole[0].state)
    np.testing.assert_allclose([h["train_loss"] for h in outcome.history], means, rtol=1e-6)
    assert outcome.history[1] == {
        "epoch": 2, "step": 14, "train_loss": outcome.history[1]["train_loss"], "x": 2,
    }  # fmt: skip
    assert epochs == [(1, 7), (2, 14), (3, 21)]
    assert advance._cache_size() == 1


@pytest.mark.parametrize("at", [7, 10, 20])
def test_sigterm_saves_and_the_same_call_resumes_bit_for_bit(tmp_path, whole, at):
    before = signal.getsignal(signal.SIGTERM)
    # Twice, as schedulers and make send it: the second one must not hinder the saving.
    feed = ToyFeed(at, lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)])
    with pytest.raises(loop.Stopped, match="stopped by SIGTERM") as caught:
        run(tmp_path, feed)
    assert signal.getsignal(signal.SIGTERM) is before
    stopped = min(at + CHUNK, -(-(at + 1) // PER_EPOCH) * PER_EPOCH)  # the dispatch in flight ends
    assert caught.value.step == stopped
    assert caught.value.path == tmp_path / "checkpoints" / str(stopped)
    seen = []
    outcome = run(tmp_path, on_epoch=lambda epoch, *_: seen.append(epoch))
    assert seen == list(range(stopped // PER_EPOCH + 1, EPOCHS + 1))
    assert_same_state(outcome.state, whole[0].state)
    assert outcome.history == whole[0].history
    assert (tmp_path / "metrics.jsonl").read_text() == whole[1]


def test_a_finished_run_returns_at_once(tmp_path, whole):
    run(tmp_path)

    def never(*_):
        raise AssertionError("a step was run")

    outcome = run(tmp_path, advance=never)
    assert_same_state(outcome.state, whole[0].state)
    assert outcome.history == whole[0].history


@pytest.mark.parametrize("at", [9, EPOCHS * PER_EPOCH - 1])
def test_ctrl_c_without_a_directory_stops_too_also_in_the_last_step(at):
    feed = ToyFeed(at, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(loop.Stopped, match="nothing is saved") as caught:
        run(None, feed, chunk=1)
    assert caught.value.step == at + 1


def test_on_a_cpu_a_signal_waits_for_one_step_only(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert loop.default_chunk() == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert loop.default_chunk() == 32


def test_runs_in_another_thread(whole):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(run()))
    thread.start()
    thread.join()
    assert_same_state(outcome[0].state, whole[0].state)


def test_nan_names_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(loop.DivergedError) as caught:
        run(tmp_path, ToyFeed(spoil=12))  # steps count from 1 in messages
    message = str(caught.value)
    assert "train_loss became inf at step 13 (epoch 2)" in message
    assert f"{tmp_path / 'checkpoints' / '7'} (step 7)" in message
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["7"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("saved", [True, False])
def test_a_bad_state_is_not_saved_although_its_loss_was_finite(tmp_path, saved):
    def step(state, batch):
        state, metrics = quadratic_step(state, batch)
        bad = jnp.where(state.step == 2 * PER_EPOCH, jnp.inf, 0.0)
        return state._replace(alphas=state.alphas + bad), metrics

    wrote = []
    with pytest.raises(loop.DivergedError, match=r"NaN or Inf in \.alphas after step 14") as caught:
        run(
            tmp_path if saved else None,
            advance=make_advance(step),
            on_epoch=lambda epoch, *_: wrote.append(epoch),
        )
    assert ("checkpoints/7 (step 7)" if saved else "Nothing is saved") in str(caught.value)
    assert wrote == [1]


def test_result_files_come_before_the_checkpoint(tmp_path):
    seen = []

    def on_epoch(epoch, state, means):
        seen.append((tmp_path / "checkpoints" / str(epoch * PER_EPOCH)).exists())

    run(tmp_path, epochs=1, on_epoch=on_epoch)
    assert seen == [False] and (tmp_path / "checkpoints" / "7").is_dir()


def child(folder, *options):
    path = pathlib.Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": str(path.parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(path), str(folder), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("when", ["20", "files"])
def test_killed_in_the_middle_and_started_again_is_the_uninterrupted_run(tmp_path, whole, when):
    assert child(tmp_path, when).returncode == -signal.SIGKILL
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    left = [json.loads(line)["epoch"] for line in lines]
    assert left == [1, 2]
    outcome = run(tmp_path)
    assert_same_state(outcome.state, whole[0].state)
    assert (tmp_path / "metrics.jsonl").read_text() == whole[1]


def main(folder, when):
    """Kills itself before the dispatch of a step, or between result files and checkpoint."""

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if when == "files":
        run(folder, on_epoch=lambda epoch, *_: die() if epoch == 3 else None)
    else:
        run(folder, ToyFeed(int(when), die), save_seconds=0.0)  # a checkpoint each dispatch


if __name__ == "__main__":
    main(*sys.argv[1:])
