"""The presets: what they are made of, their numbers, and the stages of a search."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import Planted
from preset_steps import CELL, DARTS, S1, TASK, build, check_step

from dnas import costs, presets, spaces
from dnas.genotype import Genotype
from dnas.gradient.hypergrad import Problem
from dnas.gradient.stopping import Record
from dnas.presets import preset as preset_module
from dnas.presets.stages import Span, Stage, keep_strongest, spans
from dnas.space import Mixing
from dnas.tasks import Classification


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "space"),
    [(name, DARTS) for name in presets.PRESETS] + [(name, S1) for name in ("pc_darts", "oles")],
)
def test_every_preset_has_a_step_on_normal_and_reduction_cells(name, space):
    check_step(build(presets.PRESETS[name](), space))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_take_other_numbers_and_refuse_impossible_ones(name):
    preset = presets.PRESETS[name](epochs=7, alpha_learning_rate=0.01)
    assert (preset.epochs, preset.alpha_learning_rate) == (7, 0.01)
    with pytest.raises(ValueError, match=r"warmup=1\.5: expected a number from 0 to below 1"):
        presets.PRESETS[name](warmup=1.5)
    assert presets.PRESETS[name].__doc__


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_plain_data(name):
    one, other = presets.PRESETS[name](), presets.PRESETS[name]()
    assert one == other and hash(one) == hash(other)
    assert one != presets.PRESETS[name](epochs=7)
    assert " at 0x" not in repr(one) and repr(one) == repr(other)


def test_presets_are_printed_by_what_differs_from_darts():
    assert repr(presets.darts()) == "Preset()"
    assert repr(presets.gdas(epochs=3)) == (
        "Preset(relaxation=gumbel_softmax(temperature=linear(first=10.0, last=0.1), hard=True), "
        "modify=mixing(single_path=True, optional=True), epochs=3, weight_decay=0.0005)"
    )
    assert len({presets.PRESETS[name]() for name in presets.PRESETS}) == len(presets.PRESETS)


def test_published_numbers():
    pc = presets.pc_darts()
    assert (pc.batch_size, pc.learning_rate, pc.final_learning_rate) == (256, 0.1, 0.0)
    assert (pc.alpha_learning_rate, pc.warmup * pc.epochs) == (6e-4, 15)
    assert pc.modified(CELL).mixing == Mixing(partial=4, edge_normalization=True)
    fair = presets.fair_darts()
    assert (fair.batch_size, fair.learning_rate, fair.alpha_learning_rate) == (128, 0.005, 3e-3)
    alphas = {"cell": jnp.asarray([[0.0, 2.0]])}
    assert fair.made("relaxation", total_steps=5).expected(alphas, 0)["cell"].tolist() == [
        [0.5, jax.nn.sigmoid(2.0)]
    ]
    (zero_one,) = fair.made("regularizers")
    expected = -10 * (float(jax.nn.sigmoid(2.0)) - 0.5) ** 2 / 2
    np.testing.assert_allclose(zero_one(alphas, alphas, 0)[0], expected, rtol=1e-5)
    (decay,) = presets.beta_darts().made("regularizers", total_steps=101)
    for step, weight in ((0, 0.0), (50, 25.0), (100, 50.0)):
        expected = weight * np.log(1 + np.exp(2))
        np.testing.assert_allclose(decay(alphas, alphas, step)[0], expected, rtol=1e-5)
    schedule = presets.darts_minus().made("auxiliary_skip", total_steps=11)
    assert [float(schedule(step)) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    assert presets.darts_minus().modified(DARTS).mixing == Mixing(auxiliary_skip=True)
    mix = {"cell": jnp.full((200, 2), 0.5)}
    for step, radius in ((0, 0.03), (10, 0.3)):
        perturbed = presets.sdarts_rs().made("perturbation", total_steps=11)(
            jax.random.key(0), None, mix, step
        )
        assert 0.7 * radius < float(jnp.abs(perturbed["cell"] - 0.5).max()) <= radius
    assert presets.gdas().modified(CELL).mixing.single_path
    assert presets.random_weight_sharing().alpha_scale == 0
    assert (presets.snas().epochs, presets.snas().alpha_scale) == (150, 0.01)
    assert fair.alpha_scale == 0 and presets.gdas().weight_decay == 5e-4
    assert presets.r_darts().made("stopping").eigenvalue
    assert presets.darts_pt().learning_rate == 0.025


def test_published_numbers_of_schedules_rules_and_selections():
    """What sets a preset apart, read off by what it does."""
    base = presets.darts()
    numbers = {
        "gdas": (250, 64, 0.025, 3e-4),
        "p_darts": (75, 96, 0.025, 6e-4),
        "drnas": (100, 64, 0.025, 3e-4),
        "beta_darts": (100, 64, 0.025, 3e-4),
        "lambda_darts": (100, 64, 0.025, 1e-4),
        "r_darts": (50, 64, 0.025, 3e-4),
        "dnas": (50, 64, 0.025, 3e-3),
        "random_weight_sharing": (50, 64, 0.025, 3e-4),
        "darts": (50, 64, 0.025, 3e-4),
    }
    for name, expected in numbers.items():
        p = presets.PRESETS[name]()
        assert (p.epochs, p.batch_size, p.learning_rate, p.alpha_learning_rate) == expected, name
    warm = {"p_darts": 0.4, "drnas": 0.2, "dnas": 0.2, "pc_darts": 0.3}
    assert {n: f().warmup for n, f in presets.PRESETS.items() if f().warmup} == warm
    assert (presets.r_darts().weight_decay, base.weight_decay) == (27e-4, 3e-4)
    assert presets.fair_darts().alpha_betas == (0.9, 0.999) and base.alpha_betas == (0.5, 0.999)
    assert presets.random_weight_sharing().alpha_weight_decay == 0

    # Second order moves alphas by what the first does not see: the loss of alphas' half has none.
    problem = Problem(
        lambda w, a: w["w"] * a["a"], lambda w, a: (w["w"], None), optax.sgd(0.5), lambda t: t, 0
    )
    w, a = {"w": jnp.ones(())}, {"a": jnp.ones(())}
    for preset, slope in ((base, 0.0), (presets.darts_second_order(), -0.5)):
        gradient, _ = preset.made("hypergradient")(problem, w, optax.sgd(0.5).init(w), a)
        assert float(gradient["a"]) == slope

    (decay,) = presets.dnas().made("regularizers", total_steps=101)
    alphas = {"cell": jnp.asarray([[0.0, 2.0]])}
    found = [float(decay(alphas, alphas, step)[0]) for step in (0, 50, 100)]
    np.testing.assert_allclose(found, np.array([0, 2.5, 5]) * np.log(1 + np.exp(2)), rtol=1e-5)

    # Seven steps of ascent, to the end of the radius.
    mix, steps = {"cell": jnp.full((3, 2), 0.5)}, []

    def loss(mix):
        steps.append(1)
        return (mix["cell"] ** 2 * jnp.array([1.0, -1.0])).sum()

    with jax.disable_jit():
        for step, radius in ((0, 0.03), (10, 0.3)):
            steps.clear()
            worst = presets.sdarts_adv().made("perturbation", total_steps=11)(
                jax.random.key(0), loss, mix, step, lambda tree: tree
            )
            np.testing.assert_allclose(worst["cell"][:, 0], 0.5 + radius, atol=1e-6)
            assert len(steps) == 7 + 2  # and the losses before and after

    rows = spaces.NASBench201().decisions["cell"].rows
    rule = presets.darts_plus().made("stopping", space=spaces.NASBench201()).rule
    for skips, epoch in ((1, None), (2, 1)):
        kinds = ["skip_connect"] * skips + ["none"] * (6 - skips)
        genotype = Genotype.create("nas_bench_201", {"cell": dict(zip(rows, kinds, strict=True))})
        assert rule([Record(genotype)]) == epoch


def test_the_temperature_of_snas_falls_linearly():
    relaxation = presets.snas().made("relaxation", total_steps=11)
    key, alphas = jax.random.key(3), {"cell": jnp.asarray([[0.3, -0.4, 0.1]])}

    def log_ratio(step):  # log of the first two weights' ratio: proportional to 1 / temperature
        mix = relaxation.sample(key, alphas, step)["cell"][0]
        return float(jnp.log(mix[0]) - jnp.log(mix[1]))

    temperatures = [log_ratio(0) / log_ratio(step) for step in (0, 5, 10)]
    np.testing.assert_allclose(temperatures, [1.0, 0.515, 0.03], rtol=1e-3)


def test_the_temperature_of_gdas_falls_linearly():
    key, alphas = jax.random.key(3), {"cell": jnp.asarray([[0.3, -0.4]])}
    soft = (
        presets.snas().made("relaxation", total_steps=11).sample(key, alphas, 0)["cell"][0]
    )  # at temperature one
    ratio = float(jnp.log(soft[0]) - jnp.log(soft[1]))
    relaxation = presets.gdas().made("relaxation", total_steps=11)
    for step, temperature in ((0, 10.0), (5, 5.05), (10, 0.1)):

        def first(alphas, step=step):
            return relaxation.sample(key, alphas, step)["cell"][0, 0]

        assert first(alphas) == float(ratio > 0)
        weight = 1 / (1 + np.exp(-ratio / temperature))
        slope = float(jax.grad(first)(alphas)["cell"][0, 0])
        np.testing.assert_allclose(slope, weight * (1 - weight) / temperature, rtol=1e-3)


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"relaxation: expected a part, as .* got None"):
        presets.darts(relaxation=None)
    with pytest.raises(
        ValueError, match=r"regularizers\.weight\.last=-1: expected a number of at least 0"
    ):
        presets.dnas(decay=-1).made("regularizers", total_steps=10)
    with pytest.raises(ValueError, match=r"regularizers\.weight\.last=nan: expected"):
        presets.dnas(decay=float("nan")).check(CELL, TASK)
    with pytest.raises(ValueError, match="alignment needs a table that two cells"):
        presets.lambda_darts().check(spaces.NASBench201(channels=4, cells=1, stages=1), TASK)
    assert presets.darts(alpha_interval=np.int64(2), momentum=np.float32(0.5)).alpha_interval == 2
    with pytest.raises(ValueError, match=r"capability dnas\.capabilities\.Layered, .*: layers"):
        presets.lambda_darts().made(
            "weight_penalty", total_steps=1, space=types.SimpleNamespace(name="mine"), task=TASK
        )


def test_the_series_of_i_darts_has_three_terms():
    preset, rate, curvature = presets.i_darts(), 0.01, 40.0

    def train_loss(w, a):
        return curvature * w["w"] ** 2 / 2 - w["w"] * a["a"]

    problem = Problem(train_loss, lambda w, a: (w["w"], None), None)
    gradient, _ = preset.made("hypergradient")(
        problem, {"w": jnp.ones(())}, None, {"a": jnp.ones(())}
    )
    expected = rate * sum((1 - rate * curvature) ** k for k in range(3))
    np.testing.assert_allclose(gradient["a"], expected, rtol=1e-5)
    assert (preset.learning_rate, preset.weight_decay) == (rate, 5e-4)
    assert (preset.alpha_interval, preset.epochs) == (4, 4 * 30)


def test_the_alignment_of_lambda_darts_grows_to_a_quarter():
    penalty = presets.lambda_darts().made("weight_penalty", total_steps=11, space=CELL)
    mix = {"cell": jnp.full((3, 5), 0.2)}

    def loss(params, mix):  # two cells whose gradients are (1, 0, ...) and (w, 1, ...)
        first, second = mix["cell"][:, 0, 0], mix["cell"][:, 0, 1]
        return first[0] + params["w"] * first[1] + second[1]

    def gradient(step):
        step = jnp.asarray(step)
        return penalty(loss, {"w": jnp.ones(())}, mix, step, lambda tree: tree)[0]["w"]

    slope = 2**-1.5  # of the cosine w / sqrt(w ** 2 + 1), at one
    found = [float(gradient(step)) for step in (0, 5, 10)]
    np.testing.assert_allclose(found, [0.0, -0.125 * slope, -0.25 * slope], rtol=1e-5)


def test_the_default_begins_with_what_is_largest_of_close_and_two_skip_connections_a_cell():
    space = spaces.DARTS.subset("s2", channels=8, cells=3, stem_multiplier=1)
    shapes = {name: (len(d.rows), len(d.options)) for name, d in space.decisions.items()}
    skips = {name: d.options.index("skip_connect") for name, d in space.decisions.items()}
    mix = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    for name, option in skips.items():
        mix[name][:, option] = 1.5 + np.arange(len(mix[name]))

    def train(steps, mixes, weights=0):
        count = len(next(iter(mixes.values())))
        return np.ones(count), np.full(count, 0.5)  # no move is better

    planted = Planted(space)
    planted.mix = mix
    sizes = costs.parameters(space, Classification((8, 8, 3), 10))
    trained = planted.trained(train=train, images=100, parameters=lambda: sizes)
    genotype, record = presets.dnas().made("selection")(trained)
    close = [line["row"] for line in record if line.get("rather_than") == "skip_connect"]
    # Of factors of 1.5, 2.5 and more: the median row's is 9, but half of the leading weight is far.
    assert close == 2 * ["0->2"]
    for part in genotype.parts():
        assert list(genotype[part].values()).count("skip_connect") == 2


def test_finetuning_has_a_tenth_of_the_learning_rate():
    preset = presets.darts(weight_decay=0.0, momentum=0.0, clip_norm=0.0)
    optimizer = preset.finetuning().weight_optimizer(1)
    state = optimizer.init(jnp.ones(1))
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones(1), state, jnp.ones(1))
        np.testing.assert_allclose(updates, -0.0025, rtol=1e-6)


def test_trainings_from_scratch_have_four_times_the_learning_rate_and_end_at_the_same():
    preset = presets.darts(weight_decay=0.0, momentum=0.0, clip_norm=0.0)
    optimizer, weight = preset.retraining().weight_optimizer(2), jnp.ones(1)
    state, found = optimizer.init(weight), []
    for _ in range(3):
        updates, state = optimizer.update(weight, state, weight)
        found.append(float(updates[0]))
    np.testing.assert_allclose(found, [-0.1, -0.0505, -0.001], rtol=1e-6)


def test_dropout_of_p_darts_falls_and_begins_again():
    stages = presets.p_darts().stages
    rates = [dict(stage.settings)["skip_dropout"].make(total_steps=250) for stage in stages]
    assert [float(rate(0)) for rate in rates] == pytest.approx([0.0, 0.4, 0.7])
    last = [float(rates[2](step)) for step in (50, 99, 100, 110, 200)]
    expected = [0.7 * 0.8, 0.7 * (1 - 0.396), 0.7, 0.7 * np.exp(-0.2), 0.7 * np.exp(-2)]
    np.testing.assert_allclose(last, expected, rtol=1e-5)


def test_warm_up_is_a_share_of_the_epochs_of_a_stage(monkeypatch):
    monkeypatch.setattr(preset_module, "bilevel", lambda *_, **parts: parts["warmup_steps"])
    found = [
        build(presets.darts(warmup=share), CELL, span=span)
        for share in (0.0, 0.3)
        for span in (None, Span(0, 4, 10), Span(6, 10, 10))
    ]
    # 3 steps an epoch: 3 of 10 epochs; 1 of 4, at the beginning and behind 6 others.
    assert found == [0, 0, 0, 9, 3, 21]


def test_presets_for_mixed_edges_say_so():
    class Layers:
        name = "layers"

    needs = {
        "pc_darts": r" \(it sets partial, edge_normalization\)",
        "darts_minus": r" \(it sets auxiliary_skip\)",
        "drnas": r" \(it sets partial\)",
        "p_darts": "",
    }
    for name, why in needs.items():
        with pytest.raises(ValueError, match=f"mix operations{why}, and 'layers' has no field"):
            presets.PRESETS[name]().modified(Layers())
    layers = Layers()
    for name in ("darts", "gdas", "random_weight_sharing"):
        assert presets.PRESETS[name]().modified(layers) is layers


def test_epochs_are_divided_among_stages():
    apart = (Stage(0.5), Stage(0.3), Stage(0.2))
    assert spans(apart, 10) == [Span(0, 5, 5), Span(0, 3, 3), Span(0, 2, 2)]
    joined = (Stage(0.5), Stage(0.25, goes_on=True), Stage(0.25))
    assert spans(joined, 8) == [Span(0, 4, 6), Span(4, 6, 6), Span(0, 2, 2)]
    thirds = presets.p_darts().stages
    assert spans(thirds, 75) == [Span(0, 25, 25)] * 3
    assert sum(span.epochs for span in spans(thirds, 10)) == 10
    assert spans((), 3) == []
    with pytest.raises(ValueError, match="epochs=2: expected one epoch at least for each of 3"):
        spans(thirds, 2)
    with pytest.raises(ValueError, match=r"stages: their shares .* expected a sum of 1"):
        presets.darts(stages=(Stage(0.5), Stage(0.4)))
    with pytest.raises(ValueError, match="stopping must be left out: a search in several stages"):
        presets.darts_plus(stages=(Stage(1.0),))


def test_edges_keep_their_strongest_candidates():
    space = spaces.NASBench201(
        channels=4, nodes=3, mixing=Mixing(edge_normalization=True), stages=1
    )
    mix = {
        "cell": np.asarray([[5, 4, 3, 2, 1], [1, 1, 1, 1, 1], [0, 3, 0, 2, 9]]) / 15,
        "cell.2": np.asarray([[0.2, 0.8]]),
    }
    keep = keep_strongest(space, mix, 3 / 5)
    none, skip, one, three, pool = space.operations
    assert keep == {
        "cell": {"0->1": (none, skip, one), "0->2": (none, skip, one), "1->2": (skip, three, pool)}
    }
    shrunk = space.restrict(keep)
    assert set(shrunk.decisions) == {"cell.0->1", "cell.0->2", "cell.1->2", "cell.2"}
    again = {name: np.ones((len(d.rows), len(d.options))) for name, d in shrunk.decisions.items()}
    assert {len(o) for o in keep_strongest(shrunk, again, 0.1)["cell"].values()} == {2}


def test_stages_of_p_darts_deepen_and_of_drnas_widen():
    space = spaces.DARTS(cells=8)
    stages = presets.p_darts().stages
    before, cells, candidates = space, [], []
    for stage in stages:
        mix = {
            name: np.tile(np.arange(len(d.options)), (len(d.rows), 1))
            for name, d in before.decisions.items()
        }
        before = stage.changed(space, before, mix)
        cells.append(before.cells)
        candidates.append({len(edge) for edge in before.candidates("normal")})
    assert cells == [5, 11, 17] and candidates == [{8}, {5}, {3}]
    # Skip connections are the strongest at the end; normal cells keep two of them.
    mix = {
        name: np.tile([option == "skip_connect" for option in d.options], (len(d.rows), 1)) + 0.1
        for name, d in space.decisions.items()
    }
    planted = Planted(space)
    planted.mix = mix
    genotype = presets.p_darts().made("selection")(planted.trained()).genotype
    skips = {part: list(genotype[part].values()).count("skip_connect") for part in genotype.parts()}
    assert skips == {"normal": 2, "reduce": 8}
    # The largest weights, here those that come last.
    assert set(before.candidates("reduce")) == {space.operations[-3:]}
    preset = presets.drnas()
    first = preset.modified(CELL)
    mix = {"cell": np.tile(np.arange(5), (3, 1))}
    second = preset.stages[1].changed(first, preset.stages[0].changed(first, first, {}), mix)
    assert (first.mixing.partial, second.mixing.partial) == (4, 2)
    # Decay draws alphas to zero and concentrations to one; there is no second anchor.
    assert preset.regularizers == () and preset.alpha_weight_decay == 1e-3
    assert second.decisions["cell"].options == CELL.operations[2:]


def test_a_stage_has_settings_of_its_own():
    dropout = optax.constant_schedule(0.3)
    stage = Stage(1.0, settings={"skip_dropout": dropout, "momentum": 0.5})
    preset = presets.darts(stages=(stage,)).of_stage(stage)
    assert preset.stages == () and preset.momentum == 0.5
    assert preset.skip_dropout is dropout
