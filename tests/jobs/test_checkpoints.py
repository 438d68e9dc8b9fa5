import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.jobs.checkpoints import CheckpointError, Checkpoints


class State(NamedTuple):
    params: dict
    opt: optax.OptState
    key: jax.Array
    step: int
    sums: dict


def make(seed, width=3):
    params = {"w": jax.random.normal(jax.random.key(seed), (width, 2))}
    params["none"] = {7: jnp.zeros((0, 4))}
    params["half"] = jnp.asarray([1 / 3], jnp.bfloat16)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.1, momentum=0.9))
    key = jax.random.key(seed, impl="rbg")
    return State(params, optimizer.init(params), key, seed, {"loss": np.float64(seed) / 3})


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if hasattr(a, "dtype") and jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_restores_bit_for_bit_into_the_same_structure_and_keeps_two(tmp_path):
    store = Checkpoints(tmp_path / "checkpoints")
    assert store.latest() is None
    for step in (1, 2, 3):
        store.save(step, make(step), {"loss": step / 3})
    store.save(3, make(99))  # a step already saved is left as it is
    store.close()

    store = Checkpoints(tmp_path / "checkpoints")
    assert store.latest() == 3
    restored, notes = store.restore(make(0))
    assert notes == {"loss": 3 / 3}
    assert_same(restored, make(3))
    assert restored.sums["loss"] == 1.0  # a double stays a double
    assert jax.random.uniform(restored.key) == jax.random.uniform(make(3).key)
    assert_same(store.restore(make(0), step=2)[0], make(2))
    assert sorted(p for p in os.listdir(tmp_path / "checkpoints") if p.isdigit()) == ["2", "3"]
    with pytest.raises(CheckpointError, match="no checkpoint of step 1"):
        store.restore(make(0), step=1)


def test_a_mismatch_names_the_leaves(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(5, make(5))
    with pytest.raises(CheckpointError, match=r"'w'\]: float32\[3, 2\] in the checkpoint, float32"):
        store.restore(make(0, width=4))
    other = make(0)
    other.params["more"] = other.params.pop("half")
    with pytest.raises(CheckpointError) as caught:
        store.restore(other)
    assert ".params['more']: not in the checkpoint" in str(caught.value)
    assert ".params['half']: only in the checkpoint" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"\.key: key<rbg>\[\] in the checkpoint, key<fry>"):
        store.restore(make(0)._replace(key=jax.random.key(0)))


def test_damage_is_named_and_says_where_to_go_back_to(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, make(step))
    store.close()
    largest = max(
        (p for p in (tmp_path / "2" / "arrays").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    largest.write_bytes(bytes(largest.stat().st_size))
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        Checkpoints(tmp_path).restore(make(0))
    assert str(tmp_path / "2") in str(caught.value)
    assert "go back to step 1" in str(caught.value)
    assert_same(Checkpoints(tmp_path).restore(make(0), step=1)[0], make(1))


def test_what_a_killed_process_left_is_not_a_checkpoint(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(1, make(1))
    store.close()
    left = next(tmp_path.glob("1*"))
    (tmp_path / f"2.orbax-checkpoint-tmp-{left.name}").mkdir()
    assert Checkpoints(tmp_path).latest() == 1
