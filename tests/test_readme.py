"""The examples of the README, as a reader would type them."""

import doctest
import pathlib
import re

import pytest

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def test_pictures_exist_and_no_placeholder_is_left():
    text = README.read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures and all((README.parent / picture).is_file() for picture in pictures)
    assert not re.findall(r"[A-Z0-9]+_(?:TABLE|ROW)", text)


@pytest.mark.slow
def test_examples():
    failed, tried = doctest.testfile(str(README), module_relative=False)
    assert tried > 10
    assert failed == 0
