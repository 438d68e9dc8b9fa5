import csv
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.benchmarks import NASBench201
from dnas.benchmarks.nas_bench_201 import EDGES, OPTIONS, SIZE
from dnas.genotype import Genotype
from dnas.spaces import DARTS
from dnas.spaces import NASBench201 as NASBench201Space
from dnas.spaces.published import format_nas_bench_201, parse_nas_bench_201

BEST = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
)


def uniform(option):
    return Genotype.create("nas_bench_201", {"cell": dict.fromkeys(EDGES, option)})


def lines():
    """A table whose accuracy is a hand-made function of the options; in shuffled order."""
    made = [["note", "arch_str", "c10_test_200ep", "c10_valid_12ep", "lat_phone", "params_m_c10"]]
    for choices in itertools.product(range(5), repeat=6):
        a, b, c, d, e, f = (OPTIONS[k] for k in choices)
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        worth = choices[0] + choices[5] / 8
        made.append(["x", text, worth, 5 - worth, sum(choices), choices[2]])
    order = np.random.default_rng(0).permutation(SIZE) + 1
    return [made[0]] + [made[i] for i in order]


@pytest.fixture(scope="module")
def made():
    return lines()


def write(folder, rows):
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def table(made, tmp_path_factory):
    return NASBench201(write(tmp_path_factory.mktemp("table"), made))


def test_numbers_are_base_five_digits_of_the_edges(table):
    genotype = parse_nas_bench_201(BEST)
    number = 3 + 3 * 5 + 3 * 25 + 1 * 125 + 3 * 625 + 2 * 3125
    assert table.number(genotype) == number
    assert table.genotype(number) == genotype
    assert table.number(uniform("none")) == 0
    assert table.number(uniform("avg_pool_3x3")) == SIZE - 1
    reverse = dict(reversed(genotype["cell"].items()))
    assert table.number(Genotype.create("x", {"cell": reverse})) == number


def test_it_says_which_spaces_and_data_it_knows(table, made, tmp_path):
    space = NASBench201Space()
    with pytest.raises(ValueError, match="no accuracy of data set 'cifar10', split 'valid'"):
        table.check(space, "digits")
    rows = [[*row, 3.0] for row in made]
    rows[0][-1] = "c10_valid_200ep"
    full = NASBench201(write(tmp_path, rows))
    full.check(space, "digits")
    full.check(dataclasses.replace(space, operations=OPTIONS[1:3]), "cifar10")
    with pytest.raises(ValueError, match=r"table: it knows cells with the edges .*'darts'"):
        full.check(DARTS(), "cifar10")
    with pytest.raises(ValueError, match="table: it knows cells with the edges"):
        full.check(dataclasses.replace(space, nodes=3), "cifar10")
    genotype = parse_nas_bench_201(BEST)
    assert full.look_up(genotype, "digits") == {
        "dataset": "cifar10",
        "number": full.number(genotype),
        "test_accuracy": 3.25,
        "valid_accuracy": 3.0,
        "rank": int(full.rank(full.number(genotype))),
    }


def test_encode_and_decode_are_inverse_and_traced(table):
    numbers = jnp.arange(SIZE)
    choices = jax.jit(table.decode)(numbers)
    assert choices.shape == (SIZE, 6)
    np.testing.assert_array_equal(jax.jit(table.encode)(choices), numbers)
    assert int(table.encode([3, 3, 3, 1, 3, 2])) == table.number(parse_nas_bench_201(BEST))


def test_lookups_follow_the_architecture_not_the_line(table):
    number = table.number(parse_nas_bench_201(BEST))
    assert float(table.accuracy(number)) == 3 + 2 / 8
    assert float(table.accuracy(number, split="valid", epochs=12)) == 2 - 2 / 8
    assert float(table.latency(number, "phone")) == 15
    assert float(table.parameters(number)) == 3
    assert table.datasets == ("cifar10",) and table.devices == ("phone",)


def test_ranks_share_the_better_place(table):
    # 625 architectures hold each of the 25 distinct accuracies.
    best = uniform("avg_pool_3x3")
    assert int(table.rank(table.number(best))) == 1
    second = Genotype.create("x", {"cell": best["cell"] | {"2->3": "nor_conv_3x3"}})
    assert int(table.rank(table.number(second))) == 626
    assert int(table.rank(0)) == SIZE - 624
    assert int(table.rank(0, split="valid", epochs=12)) == 1


def test_jit_vmap_and_the_table_as_an_argument(table):
    numbers = jnp.array([[0, 1], [SIZE - 1, 5]])
    expected = np.array([[0, 1], [4.5, 0]])
    np.testing.assert_array_equal(jax.jit(table.accuracy)(numbers), expected)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(table.accuracy))(numbers), expected)
    found = jax.jit(lambda t, n: t.accuracy(n) + t.rank(n))(table, numbers)
    np.testing.assert_array_equal(found, expected + np.array([[15001, 11876], [1, 15001]]))
    assert table.accuracy(numbers).dtype == jnp.float32


def test_numbers_out_of_range_are_not_clamped(table):
    assert np.isnan(table.accuracy(jnp.array([-1, SIZE]))).all()
    np.testing.assert_array_equal(table.rank(jnp.array([-1, SIZE])), -1)
    with pytest.raises(ValueError, match=r"in 0 \.\.\. 15624, got 15625"):
        table.genotype(SIZE)
    with pytest.raises(TypeError, match="float32"):
        table.accuracy(1.0)


def test_unknown_names_are_named(table):
    with pytest.raises(ValueError, match=r"'mnist'.*the table has cifar10 test 200, cifar10 val"):
        table.accuracy(0, "mnist")
    with pytest.raises(ValueError, match=r"split 'train'"):
        table.accuracy(0, split="train")
    with pytest.raises(ValueError, match=r"after 100 epochs"):
        table.rank(0, epochs=100)
    with pytest.raises(ValueError, match=r"device 'moon'; the table has \('phone',\)"):
        table.latency(0, "moon")
    with pytest.raises(ValueError, match="no column 'flops_m_c10' or 'flops_m_c10_fit'"):
        table.flops(0)
    with pytest.raises(ValueError, match="'1->2' has operation 'conv'"):
        table.number(
            Genotype.create("x", {"cell": uniform("none")["cell"] | {"1->2": "conv"}}),
        )
    with pytest.raises(ValueError, match="one part 'cell'"):
        table.number(Genotype.create("x", {"cell": {"0->1": "none"}}))


def test_broken_files_are_refused_by_name(made, tmp_path):
    def refused(rows, message):
        with pytest.raises(ValueError, match=message):
            NASBench201(write(tmp_path, rows))

    header, first, second = made[:3]
    with pytest.raises(FileNotFoundError, match=r"no NAS-Bench-201 table at .*nowhere"):
        NASBench201(tmp_path / "nowhere.csv")
    refused([], "no column 'arch_str'")
    refused([["arch_str", "index"]], "no column of accuracies")
    refused([header + ["lat_phone"], first + [1]], r"same name: \['lat_phone'\]")
    refused([header, first[:3]], "line 2 has 3 cells, expected 6")
    refused([header, first, second, first], "line 4: the architecture of line 2 occurs again")
    refused([header, ["x", "|none~1|", 1, 1, 1, 1]], "line 2: malformed architecture .*none~1")
    refused([header, ["x", BEST.replace("1x1", "7x7"), 1, 1, 1, 1]], "'nor_conv_7x7'")
    for text in ("", "nan", "inf", "-5", "101", "1e10", "1_0", "٩٤", "0x10", "9" * 5000):
        message = (
            f"line 2: column 'c10_test_200ep' must be an accuracy in per cent, .* got '{text[:9]}"
        )
        refused([header, first[:2] + [text, 1, 1, 1]], message)
        if text not in ("101",):
            costs = first[:4] + [text, 1]
            refused([header, costs], "line 2: column 'lat_phone' must be a finite number from 0 on")
    refused([header, first, second], "has 2 architectures, expected all 15625")
    refused(
        [header, first, ["x" * 200_000, *second[1:]]], "line 3: field larger .* quote left open"
    )
    (tmp_path / "open.csv").write_text('arch_str,c10_test_200ep\n"|none~0|,1\n')
    with pytest.raises(ValueError, match=r"open\.csv, line 2: .* is a quote left open"):
        NASBench201(tmp_path / "open.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.csv is no text"):
        NASBench201(tmp_path / "binary.csv")


def test_fractions_are_told_from_per_cent(made, tmp_path):
    position = made[0].index("c10_test_200ep")
    rows = [[*row[:position], row[position] / 5, *row[position + 1 :]] for row in made[1:]]
    with pytest.raises(ValueError, match=r"'c10_test_200ep' goes from 0 to 0\.9, .*fractions"):
        NASBench201(write(tmp_path, [made[0], *rows]))


def test_its_representation_is_a_line(table):
    assert repr(table) == "NASBench201(15,625 architectures; cifar10; 1 devices)"


def test_published_numbers(shared_data):
    path = shared_data / "nb201_table.csv"
    table = NASBench201(path)

    def three(genotype):
        return [float(table.accuracy(table.number(genotype), d)) for d in table.datasets]

    assert table.datasets == ("cifar10", "cifar100", "ImageNet16-120")
    assert three(uniform("skip_connect")) == pytest.approx([54.30, 15.61, 16.32], abs=0.006)
    assert three(uniform("nor_conv_3x3")) == pytest.approx([93.76, 71.11, 41.44], abs=0.006)
    everything = jnp.arange(SIZE)
    for dataset, optimum in zip(table.datasets, [94.373, 73.513, 47.311], strict=True):
        best = int(table.accuracy(everything, dataset).argmax())
        assert float(table.accuracy(best, dataset)) == pytest.approx(optimum, abs=6e-4)
        assert int(table.rank(best, dataset)) == 1
    best = table.number(parse_nas_bench_201(BEST))
    assert int(table.rank(best)) == 1
    assert format_nas_bench_201(table.genotype(best)) == BEST
    assert len(table.devices) == 12 and "raspi4" in table.devices
    with path.open(newline="") as file:
        for row in itertools.islice(csv.DictReader(file), 0, None, 997):
            number = table.number(parse_nas_bench_201(row["arch_str"]))
            for found, column in (
                (table.accuracy(number), "c10_test_200ep"),
                (table.accuracy(number, "cifar100", "valid", 12), "c100_valid_12ep"),
                (table.accuracy(number, "ImageNet16-120", "valid"), "in16_valid_200ep"),
                (table.parameters(number), "params_m_c10_analytic"),
                (table.flops(number), "flops_m_c10_fit"),
                (table.latency(number, "raspi4"), "lat_raspi4"),
            ):
                assert float(found) == np.float32(row[column])
