"""How settings of two runs are told apart."""

from dnas.runtime import settings


def test_true_is_not_one_and_one_is_not_one_point_zero():
    assert settings.differences({"a": True}, {"a": 1}) == ["a: true there, 1 here"]
    assert settings.differences({"a": 1}, {"a": 1.0}) == ["a: 1 there, 1.0 here"]


def test_settings_that_both_have_come_first():
    lines = settings.differences({"b": 1, "d": 4}, {"a": 1, "b": 2, "c": 3})
    assert [line.split(":")[0] for line in lines] == ["b", "a", "c", "d"]


def test_lists_of_groups_differ_by_the_place_and_long_values_are_cut():
    there = {"stages": [[0.5, {"rate": 1}], [0.5, {"rate": 2}]], "betas": [0.5, 0.9]}
    here = {"stages": [[0.5, {"rate": 1}], [0.5, {"rate": 3}]], "betas": [0.5, 0.99]}
    assert settings.differences(there, here) == [
        "stages.1.1.rate: 2 there, 3 here",
        "betas: [0.5, 0.9] there, [0.5, 0.99] here",
    ]
    (line,) = settings.differences({"a": "x" * 10**6}, {"a": 1})
    assert len(line) < 200 and line.endswith("... there, 1 here")


def test_bytecode_is_compared_within_a_version_of_python_only():
    config = {"part": {"function": "f", "code": {"digest": "aa"}}}
    stored = settings.stamped(config, None)
    other = {"part": {"function": "f", "code": {"digest": "bb"}}}
    assert settings.contradictions(stored, config) == []
    (line,) = settings.contradictions(stored, other)
    assert line == "part.code.digest: other code there than here"
    stored["versions"][-1] = {**stored["versions"][-1], "python": "3.9.1"}
    assert settings.contradictions(stored, other) == []
    other["part"]["function"] = "g"
    assert settings.contradictions(stored, other) == ['part.function: "f" there, "g" here']
