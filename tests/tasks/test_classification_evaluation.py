"""The numbers of an evaluation, and its table."""

import json
import math

import numpy as np
import pytest

from dnas.tasks import ClassificationEvaluation as Evaluation

CONFUSION = np.array([[3, 1, 0], [0, 4, 2], [0, 0, 0]])


def test_numbers():
    evaluation = Evaluation(0.5, CONFUSION)
    assert evaluation.count == 10
    assert evaluation.accuracy == 0.7
    assert evaluation.standard_error == pytest.approx(math.sqrt(0.7 * 0.3 / 10))
    np.testing.assert_array_equal(evaluation.class_counts, [4, 6, 0])
    np.testing.assert_allclose(evaluation.class_accuracies, [3 / 4, 4 / 6, np.nan])
    data = json.loads(json.dumps(evaluation.as_dict()))
    assert data["confusion"] == CONFUSION.tolist()
    assert data["class_accuracies"] == [0.75, 4 / 6, None]


def test_table():
    score, head, *rows = (
        Evaluation(0.5, CONFUSION, ("cat", "dog", "cow")).format_table().split("\n")
    )
    assert score.startswith("test accuracy 70.00 +- 14.49 %, loss 0.5000, 10 images; columns")
    assert head.split() == ["class", "images", "correct", "%", "0", "1", "2"]
    assert [row.split() for row in rows] == [
        ["0", "cat", "4", "75.00", "3", "1", "."],
        ["1", "dog", "6", "66.67", ".", "4", "2"],
        ["2", "cow", "0", "-", ".", ".", "."],
    ]
    shown = "ClassificationEvaluation(accuracy 70.00 +- 14.49 %, loss 0.5000, 10 images, 3 classes)"
    assert repr(Evaluation(0.5, CONFUSION)) == shown
    many = Evaluation(0.5, np.eye(100, dtype=int)).format_table().split("\n")
    assert many[0].endswith("100 images") and many[101].split() == ["99", "1", "100.00"]
