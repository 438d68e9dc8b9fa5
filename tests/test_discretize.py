"""Golden alphas, worked out by hand."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from dnas import discretize, edges
from dnas.discretize import Row
from dnas.genotype import Genotype
from dnas.nn.operations import Operations
from dnas.space import Decision, Weighing
from dnas.spaces import DARTS, NASBench201

CONV = "nor_conv_1x1"
OPTIONS = ("none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3")
DARTS_ROWS = ("0->2", "1->2", "0->3", "1->3", "2->3")


def table(*weights):
    return np.array(weights), Operations("normal", DARTS_ROWS, OPTIONS)


def test_argmax_takes_the_largest_and_the_first_of_equals():
    decision = Decision("cell", ("a", "b", "c"), OPTIONS)
    weights = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.4, 0.3], [0.1, 0.4, 0.1, 0.4]]
    expected = {"a": "none", "b": CONV, "c": "skip_connect"}
    assert discretize.argmax(weights, decision) == expected
    assert discretize.argmax(jnp.array(weights, jnp.bfloat16), decision) == expected


def test_top_edges_keeps_two_edges_and_never_none():
    weights, decision = table(
        [0.9, 0.02, 0.05, 0.03],  # none is strongest, yet conv is taken
        [0.1, 0.7, 0.1, 0.1],
        [0.4, 0.1, 0.1, 0.4],
        [0.97, 0.01, 0.01, 0.01],  # the weakest once none does not count: dropped
        [0.1, 0.1, 0.5, 0.3],
    )
    found = discretize.top_edges(jnp.array(weights), decision)
    # From the strongest edge of a node to the weakest, node by node.
    assert list(found.items()) == [
        ("1->2", "skip_connect"),
        ("0->2", CONV),
        ("2->3", CONV),
        ("0->3", "avg_pool_3x3"),
    ]


def test_top_edges_breaks_ties_as_the_published_code():
    equal = [0.25] * 4
    weights, decision = table(equal, equal, equal, equal, equal)
    found = discretize.top_edges(weights, decision)
    edges_kept = ["0->2", "1->2", "0->3", "1->3"]  # the lower source nodes
    assert list(found.items()) == [(e, "skip_connect") for e in edges_kept]  # the first option
    # A tie for the second place: 0->3 and 1->3 are equal, 2->3 beats both.
    weights, decision = table(equal, equal, equal, equal, [0.1, 0.1, 0.3, 0.5])
    assert list(discretize.top_edges(weights, decision))[2:] == ["2->3", "0->3"]


def published_parse(weights, options):
    """Section 2.4 of DARTS as its published code orders it, written edge by edge."""
    gene, start = [], 0
    for node in range(4):
        best = []
        for source in range(node + 2):
            candidates = [
                (w, o) for w, o in zip(weights[start + source], options, strict=True) if o != "none"
            ]
            top = candidates[0]
            for candidate in candidates[1:]:
                top = candidate if candidate[0] > top[0] else top
            best.append((source, *top))
        best.sort(key=lambda entry: -entry[1])
        gene += [(edges.name(s, node + 2), option) for s, _, option in best[:2]]
        start += node + 2
    return gene


@pytest.mark.parametrize("seed", range(20))
def test_top_edges_agrees_with_the_published_rule(seed):
    rows = tuple(edges.name(s, t) for t in range(2, 6) for s in range(t))
    decision = Operations("cell", rows, OPTIONS)
    weights = np.random.default_rng(seed).integers(0, 4, (14, 4)) / 4  # full of ties
    expected = published_parse(weights, OPTIONS)
    assert list(discretize.top_edges(weights, decision).items()) == expected


def test_top_edges_joins_tables_in_any_order():
    first = discretize.rows(
        [[0.5, 0.5], [0.9, 0.1]], Decision("cell", ("1->2", "0->3"), ("a", "b"))
    )
    second = [Row("0->2", ("none", "c", "d"), np.array([0.4, 0.1, 0.5]))]
    assert list(discretize.top_edges_of(first + second).items()) == [
        ("0->2", "d"),  # as strong as 1->2, from a lower node
        ("1->2", "a"),
        ("0->3", "a"),  # a node with a single edge keeps it
    ]
    assert discretize.top_edges_of(first + second, keep=1) == {"0->2": "d", "0->3": "a"}
    assert discretize.top_edges_of(second, exclude=("d",)) == {"0->2": "none"}


def test_errors_name_the_culprit():
    decision = Decision("cell", ("0->2", "1->2"), ("a", "none"))
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*got \(2, 3\)"):
        discretize.argmax(np.ones((2, 3)), decision)
    with pytest.raises(ValueError, match=r"'1->2'.*not finite"):
        discretize.argmax([[1, 0], [math.nan, 0]], decision)
    with pytest.raises(ValueError, match="edge, such as '0->2', got 'kernel'"):
        discretize.top_edges([[1.0, 0.0]], Decision("cell", ("kernel",), ("a", "b")))
    with pytest.raises(ValueError, match="'0->2' has only excluded options: none"):
        discretize.top_edges([[1.0]], Operations("cell", ("0->2",), ("none",)))
    with pytest.raises(ValueError, match="'0->2' occurs twice"):
        discretize.top_edges([[1.0], [1.0]], Decision("cell", ("0->2", "0->2"), ("a",)))
    with pytest.raises(ValueError, match="keep=0"):
        discretize.top_edges(np.ones((2, 2)), decision, keep=0)
    with pytest.raises(ValueError, match="later node"):
        edges.ends("3->3")


def test_report_of_decided_open_and_single_rows():
    decisions = {
        "cell": Decision("cell", ("0->1", "0->2", "1->2"), OPTIONS),
        "kernel": Decision("kernel", ("k",), ("3",)),
    }
    mix = {
        "cell": jnp.array([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.6, 0.1]]),
        "kernel": np.array([[1.0]]),
    }
    found = discretize.report(mix, decisions)
    decided, undecided, between = found["cell"]["rows"].values()
    assert decided == {
        "strongest": "skip_connect",
        "entropy": 0.0,
        "relative_entropy": 0.0,
        "margin": 1.0,
    }
    assert undecided["entropy"] == pytest.approx(math.log(4))  # scaled to sum to one
    assert undecided["relative_entropy"] == pytest.approx(1.0)
    assert undecided["margin"] == 0.0
    assert undecided["strongest"] == "none"
    entropy = -(0.2 * math.log(0.1) + 0.2 * math.log(0.2) + 0.6 * math.log(0.6))
    assert between["entropy"] == pytest.approx(entropy)
    assert between["margin"] == pytest.approx(0.4)
    assert found["cell"]["kinds"] == {}  # no operations, whatever their names
    assert found["cell"]["margin"] == pytest.approx((1.0 + 0.0 + 0.4) / 3)
    assert found["kernel"]["rows"]["k"]["relative_entropy"] == 0.0
    assert found["kernel"]["rows"]["k"]["margin"] == 1.0
    assert json.loads(json.dumps(found)) == found
    assert found["cell"]["relative_entropy"] == pytest.approx((1 + entropy / math.log(4)) / 3)
    text = discretize.summary(found)
    assert "cell: relative entropy 0.60 (1: nothing preferred), margin 0.467" in text


def test_tables_of_single_edges_are_summed_up_in_a_line():
    decisions = {
        f"cell.0->{i}": Operations("cell", (f"0->{i}",), ("none", "skip_connect")) for i in (1, 2)
    }
    decisions["cell.3"] = Weighing(
        "cell", ("3",), ("0->3", "1->3")
    )  # weights of edges: a line of its own
    mix = {name: np.array([[0.5, 0.5]]) for name in decisions} | {
        "cell.0->2": np.array([[0.0, 1.0]])
    }
    first, second = discretize.summary(discretize.report(mix, decisions)).splitlines()
    assert first == (
        "cell: relative entropy 0.50 (1: nothing preferred), margin 0.500, strongest option has "
        "no weights in 2 of 2 rows (none 1, skip_connect 1)"
    )
    assert second == "cell.3: relative entropy 1.00 (1: nothing preferred), margin 0.000"


def test_report_refuses_logits_and_missing_tables():
    decisions = {"cell": Decision("cell", ("a",), ("x", "y"))}
    with pytest.raises(ValueError, match=r"'a'.*not logits"):
        discretize.report({"cell": np.array([[-1.0, 2.0]])}, decisions)
    with pytest.raises(ValueError, match=r"no weights for table 'cell'.*'normal'"):
        discretize.report({"normal": np.ones((1, 2))}, decisions)


def edge_table(options, *strongest):
    """A decision whose rows have these strongest options, and its mixing weights."""
    decision = Operations("cell", tuple(f"0->{i + 1}" for i in range(len(strongest))), options)
    return decision, np.array([[float(o == s) for o in options] for s in strongest])


def test_collapse_warning_is_no_matter_of_chance():
    def warning(*strongest, idle=("none", "skip_connect")):
        decision, mix = edge_table((*idle, CONV, "nor_conv_3x3", "sep_conv_3x3"), *strongest)
        return discretize.collapse_warning(discretize.report({"cell": mix}, {"cell": decision}))

    # Two of five options are idle: P(4 or more of 6) is 17.9 %, P(5 or more) is 4.1 %.
    assert warning(*["none"] * 4, "sep_conv_3x3", CONV) is None
    text = warning(*["none"] * 4, "skip_connect", CONV)
    assert (
        "'cell' are none 4 and skip_connect 1 of 6, which compute nothing (so many in 4.10%" in text
    )
    # One of four: P(4 or more of 6) is 3.8 %. As improbable, yet less than half: none.
    assert warning(*["skip_connect"] * 4, "sep_conv_3x3", CONV, idle=("skip_connect",)) is not None
    assert warning(*["skip_connect"] * 7, *[CONV] * 8, idle=("skip_connect",)) is None


def test_collapse_warning_reads_report_and_genotype():
    kernels = (f"{kind}_conv_{k}x{k}" for kind in ("sep", "dil") for k in (3, 5))
    options = ("none", "skip_connect", "nor_conv_3x3", CONV, *kernels)
    decided, mix = edge_table(options, *["none"] * 8)
    open_, spread = edge_table(options, *[CONV] * 8)
    decisions = {"normal": decided._replace(part="normal"), "reduce": open_._replace(part="reduce")}
    report = discretize.report({"normal": mix, "reduce": spread}, decisions)
    assert report["normal"]["kinds"]["idle"] == {
        "options": ["none", "skip_connect"],
        "share": 1.0,
        "chance": 0.25,
    }
    warning = discretize.collapse_warning(report)
    assert "strongest options of 'normal' are none 8 of 8" in warning
    assert "reduce" not in warning and "genotype" not in warning

    def genotype(skips):
        rows = {r: "skip_connect" if i < skips else CONV for i, r in enumerate(open_.rows)}
        return Genotype.create(
            "x", {"normal": dict.fromkeys(open_.rows, "nor_conv_3x3"), "reduce": rows}
        )

    calm = discretize.report({"normal": spread, "reduce": spread}, decisions)
    assert discretize.collapse_warning(calm, genotype(4)) is None  # 11 % by chance
    warning = discretize.collapse_warning(calm, genotype(5))
    assert "genotype's choices of 'reduce' are skip_connect 5 of 8" in warning
    assert "normal" not in warning


def test_collapse_warning_counts_the_edges_of_a_cell_together():
    # Spaces whose edges differ in their candidates have one table for each edge.
    decisions = {
        f"normal.{i}->9": Operations(
            "normal", (f"{i}->9",), ("skip_connect", "nor_conv_3x3", CONV)[: 2 + i % 2]
        )
        for i in range(4)
    }
    report = discretize.report(
        {n: np.eye(len(d.options))[:1] for n, d in decisions.items()}, decisions
    )
    warning = discretize.collapse_warning(report)
    assert (
        "'normal' are skip_connect 4 of 4, which compute nothing (so many in 2.78%" in warning
    )  # (1/2 * 1/3) ** 2


def test_collapse_warning_knows_cells_without_weights():
    def warning(*strongest):
        space = NASBench201()
        decision = space.decisions["cell"]
        mix = np.array([[float(o == s) for o in decision.options] for s in strongest])
        genotype = space.discretize({"cell": mix})
        report = discretize.report({"cell": mix}, space.decisions)
        return discretize.collapse_warning(report, genotype, space.layers)

    # Two skip connections and four poolings: three of five options have no weights.
    text = warning("skip_connect", *["avg_pool_3x3"] * 4, "skip_connect")
    assert (
        "'cell' are avg_pool_3x3 4 and skip_connect 2 of 6, which have no weights (so many" in text
    )
    assert "4.67% of random choices" in text and "compute nothing" not in text
    assert warning("skip_connect", *["avg_pool_3x3"] * 4, "nor_conv_1x1") is None


def test_few_cells_without_weights_are_no_collapse():
    space = DARTS()  # 6 normal and 2 reduction cells
    published = space.parse(
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    )
    place = space.operations.index("sep_conv_3x3")
    report = discretize.report(
        {name: np.eye(8)[[place] * 14] for name in space.decisions}, space.decisions
    )
    assert discretize.collapse_warning(report, published, space.layers) is None
    swapped = Genotype.create(
        "darts", {"normal": published["reduce"], "reduce": published["normal"]}
    )
    warning = discretize.collapse_warning(report, swapped, space.layers)
    assert (
        "choices of 'normal' are max_pool_3x3 5 and skip_connect 3 of 8, which have no" in warning
    )


def test_names_alone_make_no_option_idle():
    decision = Decision(
        "layers", ("layer 0", "layer 1", "layer 2", "layer 3"), ("none", "skip_connect", "tanh")
    )
    report = discretize.report({"layers": np.eye(3)[[0, 1, 0, 1]]}, {"layers": decision})
    genotype = Genotype.create("own", {"layers": dict.fromkeys(decision.rows, "skip_connect")})
    assert discretize.collapse_warning(report, genotype) is None
    line = "layers: relative entropy 0.00 (1: nothing preferred), margin 1.000"
    assert discretize.summary(report) == line
