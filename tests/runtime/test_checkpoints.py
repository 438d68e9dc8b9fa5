import os
import pathlib
import shutil
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.runtime import checkpoints
from dnas.runtime.checkpoints import CheckpointError, Checkpoints


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
    assert store.steps() == [] and store.restore_newest(make(0)) is None
    for step in (1, 2, 3):
        records = {"b/x": np.float32([step, np.nan]), "a": np.zeros((step, 0))}
        store.save(step, make(step), {"loss": step / 3, "history": [{"epoch": step}]}, records)
    store.save(3, make(99))  # a step already saved is left as it is

    store = Checkpoints(tmp_path / "checkpoints")
    assert store.steps() == [3, 2]
    step, restored, notes, records = store.restore_newest(make(0))
    assert step == 3 and notes == {"loss": 3 / 3, "history": [{"epoch": 3}]}
    np.testing.assert_array_equal(records["b/x"], np.float32([3, np.nan]))
    assert set(records) == {"a", "b/x"} and records["a"].shape == (3, 0)
    assert_same(restored, make(3))
    assert restored.sums["loss"] == 1.0  # a double stays a double
    assert jax.random.uniform(restored.key) == jax.random.uniform(make(3).key)
    assert_same(store.restore(make(0), step=2).tree, make(2))
    with pytest.raises(CheckpointError, match="no checkpoint of step 1"):
        store.restore(make(0), step=1)


def test_a_mismatch_names_the_leaves(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(4, make(4))
    store.save(5, make(5))
    with pytest.raises(CheckpointError, match=r"'w'\]: float32\[3, 2\] in the checkpoint, float32"):
        store.restore(make(0, width=4), 5)
    other = make(0)
    other.params["more"] = other.params.pop("half")
    with pytest.raises(CheckpointError) as caught:
        store.restore_newest(other)
    assert ".params['more']: not in the checkpoint" in str(caught.value)
    assert ".params['half']: only in the checkpoint" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"\.key: key<rbg>\[\] in the checkpoint, key<fry>"):
        store.restore(make(0)._replace(key=jax.random.key(0)), 5)


def spoil(folder):
    """Zeros in place of the arrays."""
    for path in (folder / "arrays").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))


def digit(folder):
    """Another digit in the notes: it is still JSON."""
    path = folder / "manifest" / "metadata"
    path.write_text(path.read_text().replace("0.125", "0.126"))


def other_number(folder):
    folder.rename(folder.with_name("9"))


@pytest.mark.parametrize("damage", [spoil, digit, other_number])
def test_what_is_damaged_is_passed_over_with_a_warning_and_replaced(tmp_path, damage):
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, make(step), {"loss": 0.125})
    damage(tmp_path / "2")
    (tmp_path / "99").mkdir()
    (tmp_path / "012").mkdir()  # no step
    (tmp_path / "7").write_text("")
    store = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"damaged \(.*\); the run goes back to step 1") as caught:
        found = store.restore_newest(make(0))
    named = [pathlib.Path(str(w.message).split()[2]).name for w in caught]
    assert named == ["99", "9" if damage is other_number else "2"]
    assert found.step == 1
    assert_same(found.tree, make(1))
    store.save(2, make(2))
    assert store.steps() == [2, 1]
    assert_same(Checkpoints(tmp_path).restore_newest(make(0)).tree, make(2))


@pytest.mark.parametrize("how", ["flipped", "cut", "removed"])
def test_whatever_file_is_damaged_nothing_else_is_restored(tmp_path, how):
    store = Checkpoints(tmp_path / "sound")
    for step in (1, 2):
        store.save(step, make(step), {"loss": step / 3}, {"x": np.float32([step])})
    files = sorted(path for path in store.path(2).rglob("*") if path.is_file())
    passed_over = 0
    for number, file in enumerate(files):
        folder = shutil.copytree(tmp_path / "sound", tmp_path / str(number))
        path = folder / file.relative_to(tmp_path / "sound")
        data = bytearray(path.read_bytes())
        if how == "flipped" and data:
            data[number * 7919 % len(data)] ^= 1 << number % 8
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data)
        if how == "removed":
            path.unlink()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step, tree, notes, records = Checkpoints(folder).restore_newest(make(0))
        assert_same(tree, make(step))
        assert notes == {"loss": step / 3} and records["x"].tolist() == [step]
        assert step == (1 if any("goes back to step 1" in str(w.message) for w in caught) else 2)
        passed_over += step == 1
    assert len(files) > 10 and passed_over > 1


def test_where_all_are_damaged_it_says_so(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, make(step))
        spoil(tmp_path / str(step))
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*2 is damaged .* 1 more") as got:
        Checkpoints(tmp_path).restore_newest(make(0))
    assert "\n" not in str(got.value) and store.steps() == [2, 1]


def test_a_file_in_place_of_the_directory_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match=r"checkpoints is a file, expected a directory"):
        Checkpoints(tmp_path / "checkpoints").restore_newest(make(0))


def test_what_cannot_be_written_is_named_and_what_was_saved_stays(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    store.save(1, make(1))

    def full(*_):
        (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Error\n[tensorstore: No space left on device]")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", full)
        with pytest.raises(CheckpointError) as caught:
            store.save(2, make(2))
    expected = f"{tmp_path / '2'} (0.0 MB) cannot be written: No space left on device. Make"
    assert expected in str(caught.value) and "goes on from step 1, which" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    store.save(2, make(2))
    assert_same(Checkpoints(tmp_path).restore_newest(make(0)).tree, make(2))


def test_what_a_killed_process_left_is_not_a_checkpoint_and_goes(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(1, make(1))
    (tmp_path / "2.orbax-checkpoint-tmp-7").mkdir()
    assert Checkpoints(tmp_path).steps() == [1]
    Checkpoints(tmp_path).save(2, make(2))
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
