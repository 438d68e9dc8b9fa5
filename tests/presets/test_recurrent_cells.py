"""Every preset on recurrent cells: a step is traced, or the preset is refused with a reason."""

import jax
import pytest

from dnas import presets
from dnas.jobs import stages
from dnas.spaces import Recurrent
from dnas.tasks import LanguageModelling

SPACE, TASK = Recurrent(channels=4, nodes=2), LanguageModelling(5, length=4)
REFUSED = {
    "darts_minus": "whose edges mix operations",
    "darts_plus": "names of the skip connections",
    "drnas": "whose edges mix operations",
    "fair_darts": "Restricted",
    "lambda_darts": "a table that two cells of the supernet share",
    "oles": "nothing to freeze",
    "p_darts": "whose edges mix operations",
    "pc_darts": "whose edges mix operations",
}


def build(name):
    """The search of a preset, and the shapes of its first state."""
    preset = presets.PRESETS[name]()
    stages.check(preset, SPACE, preset.epochs, TASK)
    carry = SPACE.initial_carry(3)
    space = preset.modified(SPACE)
    search = preset.build(space, TASK, steps_per_epoch=3, epochs=10, carry=carry)
    return search, jax.eval_shape(search.init, jax.random.key(0))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        build(name)


@pytest.mark.parametrize("name", sorted(set(presets.PRESETS) - set(REFUSED)))
def test_a_step_keeps_the_shapes_of_the_state(name):
    search, state = build(name)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), TASK.examples)
    new, metrics = jax.eval_shape(search.step, state, batch, batch)
    again, _ = jax.eval_shape(search.step, new, batch, batch)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (state, new, again)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert set(metrics["train"]) == {"loss", "squares", "count"} == set(metrics["valid"])
