import itertools
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from dnas import edges, viz
from dnas.genotype import Genotype
from dnas.space import Decision, Weighing
from dnas.spaces import Recurrent
from dnas.spaces.published import parse_nas_bench_201
from dnas.viz import style

DARTS_OPTIONS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
DARTS_ROWS = tuple(edges.name(s, t) for t in range(2, 6) for s in range(t))
NORMAL = Decision("normal", DARTS_ROWS, DARTS_OPTIONS)
MACRO = Decision("kernel", ("layer0.kernel", "layer1.kernel", "layer2.kernel"), ("3", "5"))


def weights(*shape, seed=0):
    drawn = np.random.default_rng(seed).random(shape)
    return drawn / drawn.sum(-1, keepdims=True)


def darts_cell(rng):
    kept = {t: rng.choice(t, 2, replace=False) for t in range(2, 6)}
    return {
        edges.name(source, t): str(rng.choice(DARTS_OPTIONS[1:]))
        for t, sources in kept.items()
        for source in sources
    }


def extents(figure):
    """The boxes of all texts that can be seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    seen = [*figure.texts]
    for legend in figure.legends:
        seen += legend.get_texts()
    for axes in figure.axes:
        seen += [*axes.texts, axes.title]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks()
            seen += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return {
        (i, text.get_text()): text.get_window_extent(canvas.get_renderer())
        for i, text in enumerate(seen)
        if text.get_text() and text.get_visible()
    }


def assert_no_text_meets_another(figure):
    boxes = extents(figure)
    for (a, box), (b, other) in itertools.combinations(boxes.items(), 2):
        apart = box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0
        assert apart, (a, b)
    for name, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0, name
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, name


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("seed", range(8))
def test_labels_of_random_darts_cells_never_overlap(seed):
    rng = np.random.default_rng(seed)
    cells = {"normal": darts_cell(rng), "reduce": darts_cell(rng)}
    figure = viz.draw_genotype(Genotype.create("darts", cells))
    assert_no_text_meets_another(figure)
    found = texts(figure)
    assert "normal cell" in found and "reduce cell" in found
    assert found.count("concatenate") == found.count("$c_{k-2}$") == found.count("$c_k$") == 2
    for cell in cells.values():
        for option in cell.values():
            assert style.readable(option) in found


def test_a_complete_cell_of_five_nodes_is_drawn_without_overlap():
    text = "|a~0|+|b~0|c~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|+|g~0|h~1|skip_connect~2|k~3|"
    figure = viz.draw_genotype(parse_nas_bench_201(text))
    assert_no_text_meets_another(figure)
    found = texts(figure)
    assert "in (0)" in found and "out (4)" in found and "concatenate" not in found


def test_missing_edges_have_no_arrow_and_skip_connections_are_dashed():
    from matplotlib.patches import PathPatch, Polygon

    figure = viz.draw_genotype(parse_nas_bench_201("|a~0|+|none~0|skip_connect~1|"))
    patches = figure.axes[0].patches
    lines = [p for p in patches if isinstance(p, PathPatch)]
    assert len(lines) == 3 and sum(isinstance(p, Polygon) for p in patches) == 2
    assert lines[0].get_linestyle() in ("-", "solid")
    assert all(line.get_linestyle() not in ("-", "solid") for line in lines[1:])


def test_draw_refuses_what_is_no_cell():
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.draw_genotype(Genotype.create("x", {}))
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.draw_genotype(Genotype.create("x", {"cell": {}}))
    with pytest.raises(ValueError, match="'3->1' does not lead to a later node"):
        viz.draw_genotype(Genotype.create("x", {"cell": {"3->1": "skip_connect"}}))


def test_rows_that_are_no_edges_are_a_list():
    choices = {"layers": {"layer 0": "relu", "layer 1": "tanh"}, "head": {"kernel": "conv_3x3"}}
    figure = viz.draw_genotype(Genotype.create("x", choices))
    texts = {text.get_text(): text for text in figure.axes[0].texts}
    assert list(texts) == [
        "layers",
        "layer 0",
        "relu",
        "layer 1",
        "tanh",
        "head",
        "kernel",
        "conv 3\N{MULTIPLICATION SIGN}3",
    ]
    assert texts["relu"].get_position()[1] == texts["layer 0"].get_position()[1]
    height = figure.get_figheight()
    assert all(0 < text.get_position()[1] < height for text in texts.values())


def test_plot_alphas_has_a_panel_a_row_with_the_data_in_a_triangle():
    history = weights(6, 14, 8)
    figure = viz.plot_alphas({"normal": history}, {"normal": NORMAL, "reduce": NORMAL})
    assert [axes.get_title() for axes in figure.axes] == [r.replace("->", "→") for r in DARTS_ROWS]
    for row, axes in enumerate(figure.axes):
        drawn = {line.get_color() + str(line.get_linestyle()): line for line in axes.lines}
        assert len(drawn) == 8  # every option has a look of its own
        heavy = max(axes.lines, key=lambda line: line.get_linewidth())
        np.testing.assert_array_equal(heavy.get_ydata(), history[:, row, history[-1, row].argmax()])
    corners = [axes.get_position().p0 for axes in figure.axes]
    assert corners[0][0] == corners[2][0] == corners[5][0] == corners[9][0]  # source 0
    assert corners[9][1] == corners[13][1] < corners[5][1] < corners[2][1]  # targets downwards
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [style.readable(option) for option in DARTS_OPTIONS]
    assert_no_text_meets_another(figure)


def test_plot_alphas_stresses_what_was_selected_not_what_is_strongest():
    history = {"kernel": weights(4, 3, 2)}
    weakest = history["kernel"][-1].argmin(1)
    selected = np.eye(2)[weakest]
    selected[1] = 0  # a row that the architecture leaves out
    figure = viz.plot_alphas(history, {"kernel": MACRO}, {"kernel": selected})
    for row, axes in enumerate(figure.axes):
        heavy = [line for line in axes.lines if line.get_linewidth() > 2]
        assert len(heavy) == int(row != 1)
        for line in heavy:
            np.testing.assert_array_equal(line.get_ydata(), history["kernel"][:, row, weakest[row]])


def test_plot_alphas_stresses_one_of_equals():
    figure = viz.plot_alphas({"kernel": np.full((1, 3, 2), 0.5)}, {"kernel": MACRO})
    for axes in figure.axes:
        assert [line.get_linewidth() > 2 for line in axes.lines].count(True) == 1


def test_edges_with_tables_of_their_own_stand_in_one_triangle():
    options = {row: DARTS_OPTIONS[i : i + 3] for i, row in enumerate(DARTS_ROWS[:5])}
    decisions = {f"normal.{row}": Decision("normal", (row,), options[row]) for row in options}
    decisions["normal.3"] = Weighing("normal", ("3",), DARTS_ROWS[2:5])  # edge normalisation
    history = {n: weights(4, 1, len(d.options)) for n, d in decisions.items()}
    figure = viz.plot_alphas(history, decisions)
    assert [text.get_text() for text in figure.texts[:2]] == ["normal", "normal.3"]
    assert [axes.get_title() for axes in figure.axes[:5]] == [r.replace("->", "→") for r in options]
    corners = [axes.get_position().p0 for axes in figure.axes]
    assert corners[0][0] == corners[2][0] < corners[1][0] == corners[3][0]  # sources
    assert corners[2][1] == corners[3][1] == corners[4][1] < corners[0][1]  # targets
    assert_no_text_meets_another(figure)


@pytest.mark.parametrize("epochs", [1, 2, 51])
def test_plot_alphas_of_plain_rows_and_several_tables(epochs):
    decisions = {
        "kernel": MACRO,
        "cell": Decision("cell", ("0->1", "0->2", "1->2"), DARTS_OPTIONS[:5]),
    }
    history = {"kernel": weights(epochs, 3, 2), "cell": weights(epochs, 3, 5)}
    figure = viz.plot_alphas(history, decisions)
    assert len(figure.axes) == 6
    assert_no_text_meets_another(figure)


def test_heat_alphas_prints_the_weights_and_frames_the_largest():
    mix = {"normal": weights(14, 8), "kernel": weights(3, 2)}
    figure = viz.heat_alphas(mix, {"normal": NORMAL, "kernel": MACRO})
    for axes, values in zip(figure.axes, mix.values(), strict=True):
        assert [text.get_text() for text in axes.texts] == [f"{v:.2f}" for v in values.ravel()]
        frames = [(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in axes.patches]
        assert frames == list(enumerate(values.argmax(1)))
        bold = [text.get_weight() == "bold" for text in axes.texts]
        np.testing.assert_array_equal(np.reshape(bold, values.shape).argmax(1), values.argmax(1))


def test_weights_of_a_wrong_shape_or_name_are_refused():
    with pytest.raises(ValueError, match=r"'kernel' must have shape \('epochs \+ 1', 3, 2\)"):
        viz.plot_alphas({"kernel": weights(3, 2)}, {"kernel": MACRO})
    with pytest.raises(ValueError, match=r"'kernel' must have shape \(3, 2\), got \(2, 3\)"):
        viz.heat_alphas({"kernel": weights(2, 3)}, {"kernel": MACRO})
    with pytest.raises(ValueError, match=r"weights of \['kernel'\], got \['other'\]"):
        viz.heat_alphas({"other": weights(3, 2)}, {"kernel": MACRO})
    with pytest.raises(ValueError, match="got none"):
        viz.plot_alphas({}, {"kernel": MACRO})


def test_save_writes_the_format_of_the_ending(tmp_path):
    figure = viz.draw_genotype(parse_nas_bench_201("|nor_conv_3x3~0|"))
    assert figure.canvas.manager is None  # unknown to pyplot: nothing to close, no display
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for ending, start in starts.items():
        path = tmp_path / f"cell.{ending}"
        viz.save(figure, path)
        assert path.read_bytes().startswith(start)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "dnas.viz.picture", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'dnas\[viz\]'"):
        viz.draw_genotype(parse_nas_bench_201("|a~0|"))


def test_notebooks_show_pictures():
    picture = viz.draw_genotype(Genotype.create("x", {"cell": {"0->1": "skip_connect"}}))
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_recurrent_cell_ends_in_the_mean_of_its_nodes():
    genotype = Recurrent(nodes=3).parse(
        "Genotype(recurrent=[('tanh', 0), ('relu', 1), ('sigmoid', 1)], concat=range(1, 4))"
    )
    texts = [text.get_text() for text in viz.draw_genotype(genotype).axes[0].texts]
    assert {"in (0)", "1", "2", "3", "out", "mean", "tanh", "relu", "sigmoid"} <= set(texts)
