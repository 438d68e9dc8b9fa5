"""What searches report: mixing weights of methods that anneal them, and doubts."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_search_stages import Activation, data, run

from dnas import discretize, presets, selection
from dnas.gradient import hypergrad, relax
from dnas.gradient.stopping import Stopping
from dnas.tasks import Classification


def sharpening(alphas, step):
    return {name: jax.nn.softmax((1.0 + step) * table) for name, table in alphas.items()}


# A softmax that sharpens, by one every step; without noise it does so, too.
ANNEALED = relax.Relaxation(lambda key, alphas, step: sharpening(alphas, step), sharpening)


def test_mixing_weights_are_those_of_the_last_step(tmp_path):
    seen = []

    def select(trained):
        seen.append(trained.mix["only"])
        return selection.strongest()(trained)

    def rule(records):
        return 2 if len(records) == 3 else None

    preset = presets.darts(
        relaxation=ANNEALED,
        alpha_learning_rate=0.1,
        selection=select,
        stopping=Stopping(rule),
    )
    result = run(preset, tmp_path)
    alphas, mixes = (result.trajectory[f"{part}/only"] for part in ("alphas", "mix"))
    # Three steps an epoch, numbered from 0: epochs end with the steps 2, 5 and 8.
    wanted = [jax.nn.softmax((1.0 + last) * alphas[e]) for e, last in enumerate((0, 2, 5, 8))]
    np.testing.assert_allclose(mixes, np.stack(wanted), rtol=1e-6)
    assert np.abs(mixes[-1] - np.asarray(jax.nn.softmax(alphas[-1]))).max() > 0.05
    # Of the epoch that the rule went back to, also for a selection.
    np.testing.assert_array_equal(result.mix["only"], mixes[2])
    np.testing.assert_allclose(seen[0], mixes[2], rtol=1e-6)
    entropy = discretize.report(result.mix, Activation().decisions)["only"]["relative_entropy"]
    assert result.history[1]["relative_entropy/only"] == pytest.approx(entropy)


def test_the_curvature_is_that_of_the_mix_of_the_last_step():
    def expected(alphas, step):
        scale = jnp.where(step == 2, 2.0, 1.0)
        return {name: jax.nn.softmax(scale * table) for name, table in alphas.items()}

    relaxation = relax.softmax()._replace(expected=expected)
    method = presets.darts(relaxation=relaxation).build(
        Activation(),
        Classification((4, 4, 1), 3),
        steps_per_epoch=3,
        epochs=2,
    )
    state, eigenvalue = method.init(jax.random.key(0)), jax.jit(method.eigenvalue)
    images = {"image": data().train.images[:4], "label": data().train.labels[:4]}
    early, after, late = (
        float(eigenvalue(state._replace(step=jnp.int32(steps)), images, images))
        for steps in (0, 3, 4)
    )
    assert early == pytest.approx(late, rel=1e-3)
    assert after == pytest.approx(4 * late, rel=0.1)  # alphas are nearly zero


def test_a_relaxation_whose_expected_mix_takes_no_step_is_refused(tmp_path):
    for expected, message in (
        (lambda alphas: alphas, r"relaxation\.expected cannot be called with \(alphas, step\)"),
        (
            lambda alphas, step: {"only": alphas["only"][0]},
            r"the shapes \{'only': \(3,\)\}; .*1, 3",
        ),
    ):
        relaxation = relax.softmax()._replace(expected=expected)
        with pytest.raises(ValueError, match=message):
            run(presets.darts(relaxation=relaxation), tmp_path / "run")
    assert not (tmp_path / "run").exists()


UNDECIDED = "the search is undecided, and its result little more than chance"
CHANCE = "the training loss of the last epoch is"


def test_an_undecided_search_says_so(tmp_path):
    result = run(presets.darts(alpha_learning_rate=1e-6, learning_rate=0.1), tmp_path)
    assert [text.split(":")[0] for text in result.warnings] == [UNDECIDED]
    assert "the weights of 'only' are even" in result.warnings[0]
    assert "moved by" in result.warnings[0] and "larger alpha_learning_rate" in result.warnings[0]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["warnings"] == list(result.warnings)


def test_where_a_selection_measures_alphas_need_not_move(tmp_path):
    fixed = {"hypergradient": hypergrad.frozen(), "alpha_weight_decay": 0.0, "alpha_scale": 0.0}
    select = selection.best_of_samples(3)
    options = {"epochs": 2, "space": Activation(), "folder": tmp_path}
    chosen = run(presets.darts(**fixed, selection=select, learning_rate=0.1), **options)
    assert not any(text.startswith(UNDECIDED) for text in chosen.warnings)
    again = run(presets.darts(**fixed, selection=select, learning_rate=0.1), **options)
    assert again.warnings == chosen.warnings
    limited = run(presets.darts(**fixed, selection=selection.limited_skips()), epochs=2)
    assert "moved by 0, no more than their initial noise of 0" in limited.warnings[0]


def test_weights_that_learned_nothing_are_told():
    result = run(presets.darts(learning_rate=1e3, clip_norm=0.0), epochs=1)
    (text,) = [text for text in result.warnings if text.startswith(CHANCE)]
    assert "worse than chance (1.099)" in text and "a smaller learning_rate" in text
