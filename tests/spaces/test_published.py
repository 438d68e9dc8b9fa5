import random

import pytest

from dnas.genotype import Genotype
from dnas.spaces import published

BEST = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def tiny(normal="[('a', 1), ('b', 0)]", concat="[2]"):
    return (
        f"Genotype(normal={normal}, normal_concat={concat}, "
        "reduce=[('c', 0), ('d', 1)], reduce_concat=range(2, 3))"
    )


def test_nas_bench_201_round_trip():
    genotype = published.parse_nas_bench_201(BEST)
    assert list(genotype["cell"].items()) == [
        ("0->1", "nor_conv_3x3"),
        ("0->2", "nor_conv_3x3"),
        ("1->2", "nor_conv_3x3"),
        ("0->3", "skip_connect"),
        ("1->3", "nor_conv_3x3"),
        ("2->3", "nor_conv_1x1"),
    ]
    assert genotype.space == "nas_bench_201"
    assert published.format_nas_bench_201(genotype) == BEST
    assert published.parse_nas_bench_201(BEST + "\n") == genotype


def test_nas_bench_201_has_any_number_of_nodes_and_rows_in_any_order():
    text = "|a~0|+|b~0|c~1|+|d~0|e~1|f~2|+|g~0|h~1|i~2|j~3|"
    genotype = published.parse_nas_bench_201(text, space="larger")
    assert genotype.space == "larger" and len(genotype["cell"]) == 10
    reverse = dict(reversed(genotype["cell"].items()))
    assert published.format_nas_bench_201(Genotype.create("larger", {"cell": reverse})) == text
    assert published.format_nas_bench_201(published.parse_nas_bench_201("|a~0|")) == "|a~0|"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "node 1 of ''"),
        ("|", "node 1"),
        ("a~0", r"node 1 .*must read"),
        ("|a~0|+", r"node 2 .*must read.*got ''"),
        ("|a~0|+|b~0|", "node 2 .*must have 2 incoming edges, got 1"),
        ("|a~0|b~1|", "node 1 .*must have 1 incoming edges, got 2"),
        ("|a~1|", "expected 'op~0' as edge 0, got 'a~1'"),
        ("|a|", "expected 'op~0' as edge 0, got 'a'"),
        ("|~0|", "'' is no name of an operation"),
        ("|a b~0|", "'a b' is no name"),
        ("|a~0|+|b~1|c~0|", "node 2 .*edge 0, got 'b~1'"),
    ],
)
def test_nas_bench_201_names_what_is_malformed(text, message):
    with pytest.raises(ValueError, match=message):
        published.parse_nas_bench_201(text)


def test_nas_bench_201_format_names_what_is_missing():
    with pytest.raises(ValueError, match=r"lacks the edges \['0->2'\]"):
        published.format_nas_bench_201(
            Genotype.create("x", {"cell": {"0->1": "a", "1->2": "b"}}),
        )
    with pytest.raises(ValueError, match=r"parts \('cell',\), got \('normal',\)"):
        published.format_nas_bench_201(Genotype.create("x", {"normal": {"0->1": "a"}}))


def test_darts_round_trip_keeps_the_order_of_pairs():
    genotype = published.parse_darts(DARTS_V2)
    assert list(genotype["normal"].items())[4:] == [
        ("1->4", "sep_conv_3x3"),
        ("0->4", "skip_connect"),
        ("0->5", "skip_connect"),
        ("2->5", "dil_conv_3x3"),
    ]
    assert list(genotype["reduce"])[2:4] == ["2->3", "1->3"]
    assert genotype.space == "darts"
    assert published.format_darts(genotype) == DARTS_V2
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_darts_reads_lists_ranges_tuples_and_assignments():
    genotype = published.parse_darts(DARTS_V2)
    listed = DARTS_V2.replace("range(2, 6)", "[2, 3, 4, 5]")
    assert published.parse_darts(listed) == genotype
    assert published.parse_darts(DARTS_V2.replace("range(2, 6)", "(2, 3, 4, 5)")) == genotype
    for concat in ("list(range(2, 6))", "tuple(range(2, 6))", "list([2, 3, 4, 5])"):
        assert published.parse_darts(DARTS_V2.replace("range(2, 6)", concat)) == genotype
    assert published.parse_darts(f"  DARTS_V2 = {listed}\n") == genotype
    assert published.parse_darts(tiny())["normal"] == {"1->2": "a", "0->2": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'Genotype"),
        ("Genotype(", "not the text of a genotype"),
        ("Genotype(normal=1)\0", "not the text of a genotype"),
        ("[" * 5000, "not the text of a genotype"),
        ("Genotype()", r"must have the fields .*got \[\]"),
        ("Genotype([('a', 0)])", "expected 'Genotype"),
        ("Genotype(**x)", r"must have the fields .*got \[None\]"),
        (tiny().replace("Genotype", "Other"), "expected 'Genotype"),
        (tiny() + "\nimport os", "expected 'Genotype"),
        (tiny(normal="__import__('os').getcwd()"), "normal must be a plain list"),
        (tiny(normal="x"), "normal must be a plain list, got 'x'"),
        (tiny(normal="{[]: 1}"), "normal must be a plain list"),
        (tiny(normal="[]"), "normal must be a list of 2 pairs"),
        (tiny(normal="[('a', 0)]"), "normal must be a list of 2 pairs"),
        (tiny(normal="[('a', 0), 'b']"), "pair 1 of normal must be"),
        (tiny(normal="[('a', 0), ('b', True)]"), "pair 1 of normal must be"),
        (tiny(normal="[('a', 0), ('b', 2)]"), "pair 1 of normal leads from node 2 to node 2"),
        (tiny(normal="[('a', 0), ('b', -1)]"), "pair 1 of normal leads from node -1"),
        (tiny(normal="[('a', 0), ('b', 0)]"), "pair 1 of normal is a second edge '0->2'"),
        (tiny(normal="[('a', 0), ('b c', 1)]"), "pair 1 of normal: 'b c' is no name"),
        (tiny(concat="[2, 3]"), r"normal_concat must be all intermediate nodes, \[2\]"),
        (tiny(concat="range(2, 10**9)"), "normal_concat must be a plain list"),
        (tiny(concat="range(2, 1000000000000)"), "normal_concat must be all"),
        (tiny(concat="range(2, 3, 0)"), "normal_concat: .*is no range"),
        (tiny(concat="range()"), "normal_concat: .*is no range"),
        (tiny(concat="list(2)"), "normal_concat must be a list or a range"),
        (tiny(concat="'2'"), "normal_concat must be a list or a range"),
        (tiny(concat="list(range(2, 4))"), r"normal_concat must be all intermediate nodes, \[2\]"),
        (tiny(concat="list([2], [3])"), "normal_concat must be a list or a range"),
        (tiny(concat="set([2])"), "normal_concat must be a list or a range"),
        (tiny(concat="range(2, stop=3)"), "normal_concat must be a list or a range"),
        (tiny(concat="[True]"), "normal_concat must be a list or a range"),
    ],
)
def test_darts_names_what_is_malformed(text, message):
    with pytest.raises(ValueError, match=message):
        published.parse_darts(text)


def test_darts_format_names_what_is_wrong():
    cell = {"0->2": "a", "1->2": "b"}
    with pytest.raises(ValueError, match=r"'reduce' must have 2 edges .*got \['0->2'\]"):
        published.format_darts(
            Genotype.create("darts", {"normal": cell, "reduce": {"0->2": "a"}}),
        )
    with pytest.raises(ValueError, match=r"'reduce' must have 2 edges .*got \['0->3', '1->3'\]"):
        shifted = {"0->3": "a", "1->3": "b"}
        published.format_darts(Genotype.create("darts", {"normal": cell, "reduce": shifted}))
    with pytest.raises(ValueError, match="expected a genotype with the parts"):
        published.format_darts(Genotype.create("darts", {"normal": cell}))


@pytest.mark.parametrize(
    ("text", "parse", "write"),
    [
        (BEST, published.parse_nas_bench_201, published.format_nas_bench_201),
        (DARTS_V2, published.parse_darts, published.format_darts),
    ],
)
def test_damaged_text_is_read_or_refused_and_nothing_else(text, parse, write):
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        characters = list(text)
        for _ in range(rng.randint(1, 3)):
            where = rng.randrange(len(characters))
            kind = rng.randrange(3)
            if kind == 0:
                del characters[where]
            else:
                characters[where : where + kind - 1] = rng.choice("|~+0139()[]{}'\",=:\n\t #é*")
        try:
            genotype = parse("".join(characters))
        except ValueError as error:
            assert str(error)
            refused += 1
        else:
            assert parse(write(genotype)) == genotype
    assert refused > 200
