"""Contracts as checks, for objects of one's own: they raise AssertionError, naming what fails."""

from dnas.testing.relaxations import check_relaxation
from dnas.testing.spaces import check_space
from dnas.testing.strategies import Planted, check_strategy
from dnas.testing.tasks import check_task

__all__ = ["Planted", "check_relaxation", "check_space", "check_strategy", "check_task"]
