"""Contracts as checks, for objects of one's own: they raise AssertionError, naming what fails."""

from dnas.testing.strategies import Planted, check_strategy
from dnas.testing.tasks import check_task

__all__ = ["Planted", "check_strategy", "check_task"]
