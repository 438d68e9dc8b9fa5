"""Which settings are suspected when a run diverged."""

import pytest

from dnas import presets
from dnas.gradient import relax
from dnas.runtime import divergence, fingerprint
from dnas.runtime.loop import DivergedError

USUAL = "A smaller learning rate or stronger clipping may help."


@pytest.mark.parametrize("name", presets.PRESETS)
def test_no_published_setting_is_suspected(name):
    settings = {"search": fingerprint.plain(presets.PRESETS[name]())}
    assert divergence.advice(settings) == USUAL


def test_extreme_settings_are_named():
    settings = {"search": {"temperature": 1e-30, "learning_rate": 0.025, "epochs": 10**9}}
    assert divergence.advice(settings) == (
        "Likely the cause: search.temperature=1e-30 is extreme (usual are 0.001 to 1000)."
    )
    settings = {"search": {"learning_rate": 10**6, "alpha_betas": [0.5, 0.999], "clip_norm": 0.0}}
    settings |= {"train": {"weight_decay": 7.0, "nesterov": True}}
    assert divergence.advice(settings) == (
        "Likely the cause: search.learning_rate=1000000 is extreme (usual are 1e-08 to 1); "
        "train.weight_decay=7.0 is extreme (usual are 1e-10 to 0.1)."
    )


def test_settings_of_parts_are_named():
    cold = presets.part(relax.gumbel_softmax, temperature=presets.linear(1.0, 1e-30))
    search = fingerprint.plain(presets.darts(relaxation=cold))
    assert divergence.advice({"search": search}) == (
        "Likely the cause: search.relaxation.temperature.last=1e-30 is extreme "
        "(usual are 0.001 to 1000)."
    )
    given = {"search": {"relaxation": {"temperature": (1.0, 1e-30)}}}
    text = divergence.advice({"search": search, "given": given})
    assert text.count("extreme") == 1 and "search.relaxation.temperature=1e-30" in text
    # What is no part may have no names: then the attribute is named that holds the number.
    preset = presets.darts(relaxation=relax.gumbel_softmax(1e-30))
    text = divergence.advice({"search": fingerprint.plain(preset)})
    assert "Likely the cause: search.relaxation" in text and "=1e-30 is extreme" in text


def test_the_error_of_a_job_has_the_advice():
    with (
        pytest.raises(DivergedError, match=r"^nan at step 3\. Likely .*search\.temperature=1e-30"),
        divergence.explained({"search": {"temperature": 1e-30}}),
    ):
        raise DivergedError("nan at step 3.")
