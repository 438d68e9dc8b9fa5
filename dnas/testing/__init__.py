"""Contracts as checks, for objects of one's own: they raise AssertionError, naming what fails."""

from dnas.testing.tasks import check_task

__all__ = ["check_task"]
