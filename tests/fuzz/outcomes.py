"""What becomes of an input: refused in one line, accepted, a traceback, or no answer."""

import collections
import pathlib
import signal
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

SECONDS = 20  # without an answer for so long, an input counts as too slow
LINE = 500
OURS = ("dnas", "experiments")


class Input(NamedTuple):
    """One thing that a user may give.

    Attributes:
      label: what it is, for messages.
      give: gives it.
      bad: whether it must be refused; otherwise it may also be accepted.
    """

    label: str
    give: Callable[[], Any]
    bad: bool = False


class TooSlowError(BaseException):
    """No answer; no handler of ordinary errors catches it."""


def classify(given: Input) -> tuple[str, str]:
    """The class of an input, and why it is of that class."""

    def give_up(*_):
        raise TooSlowError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        given.give()
    except TooSlowError:
        return "too slow", ""
    except (ValueError, OSError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = set(pathlib.Path(frame.filename).parts) & set(OURS)
        text = str(error)
        line = text and "\n" not in text and len(text) <= LINE
        return ("refused" if ours and line else "traceback"), f"{type(error).__name__}: {text}"
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return ("accepted though bad" if given.bad else "accepted"), ""


def count(inputs: Iterable[Input]) -> tuple[collections.Counter, list[str]]:
    """How many inputs are of each class, and those that should not be of theirs."""
    counts, faults = collections.Counter(), []
    for given in inputs:
        kind, why = classify(given)
        counts[kind] += 1
        if kind not in ("refused", "accepted"):
            faults.append(f"{kind}: {given.label[:120]} -> {why[:300]}")
    return counts, faults
