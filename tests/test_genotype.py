"""Genotypes as data."""

import dataclasses
import json

import pytest

from dnas import Genotype, edges, spaces


def make():
    return Genotype.create("darts", {"normal": {"0->2": "skip_connect", "1->2": "sep_conv_3x3"}})


def test_compares_by_value_and_cannot_change():
    assert make() == make() and hash(make()) == hash(make())
    turned = {"normal": {"1->2": "sep_conv_3x3", "0->2": "skip_connect"}}
    assert make() == Genotype.create("darts", turned)
    assert hash(make()) == hash(Genotype.create("darts", turned))
    assert make() != Genotype.create("darts", {"normal": {"0->2": "skip_connect"}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().space = "other"
    make()["normal"]["0->2"] = "none"  # a copy
    assert repr(make()) == "Genotype(darts: normal 0->2 skip_connect, 1->2 sep_conv_3x3)"
    assert make()["normal"]["0->2"] == "skip_connect"


def test_travels_as_json(tmp_path):
    path = tmp_path / "genotype.json"
    make().save(path)
    assert Genotype.load(path) == make()
    assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Genotype(normal=[])", "must be JSON"),
        ("[]", "expected a genotype of schema 1, got 'list'"),
        ("[" * 100_000, "must be JSON, .* recursion"),
        ('{"schema": ' + "1" * 5000 + "}", "must be JSON"),
        ('{"schema": true}', "expected a genotype of schema 1, got True"),
        ('{"schema": 1, "schema": 1, "space": "x", "choices": {}}', "'schema' occurs twice"),
        (
            '{"schema": 1, "space": "x", "choices": {"a": {"b": "c", "b": "d"}}}',
            "the key 'b' occurs twice",
        ),
        ('{"schema": 2}', "expected a genotype of schema 1, got 2"),
        ('{"schema": 1, "space": 3, "choices": {}}', "'space' must be a name, got 3"),
        ('{"schema": 1, "space": "x", "choices": {"a": {"b": 1}}}', "'choices' must be"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Genotype.from_json(text)


def test_what_a_message_quotes_is_cut_to_a_line(tmp_path):
    huge = "x" * 1_000_000
    path = tmp_path / "genotype.json"
    Genotype.create(huge, {huge: {huge: huge}}).save(path)
    for refuse in (
        lambda: spaces.DARTS().validate(Genotype.load(path)),
        lambda: Genotype.create("darts", {huge: huge}),
        lambda: spaces.DARTS().parse(huge),
        lambda: spaces.DARTS().parse(f"Genotype({huge}=1)"),
        lambda: spaces.NASBench201().parse(f"|{huge}~1|"),
        lambda: spaces.NASBench201(operations=(huge,)),
        lambda: edges.ends(huge),
    ):
        with pytest.raises(ValueError) as caught:
            refuse()
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"genotype\.json: a genotype must be JSON"):
        Genotype.load(path)


def test_missing_part_is_named():
    with pytest.raises(KeyError, match="no part 'reduce'"):
        make()["reduce"]


def test_digests_do_not_depend_on_the_order_of_choices():
    one = Genotype.create("s", {"a": {"0": "x", "1": "y"}})
    assert one.digest == Genotype.create("s", {"a": {"1": "y", "0": "x"}}).digest
    others = [
        Genotype.create("s", {"a": {"0": "y", "1": "x"}}),
        Genotype.create("t", {"a": {"0": "x", "1": "y"}}),
        Genotype.create("s", {"b": {"0": "x", "1": "y"}}),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
    assert len(one.digest) == 16 and int(one.digest, 16) >= 0
