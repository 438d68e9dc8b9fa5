"""When to stop a search early, and which epoch's alphas to keep."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from dnas import checks
from dnas.genotype import Genotype


class Record(NamedTuple):
    """What is known of one finished epoch.

    Attributes:
      genotype: what alphas stood for at its end.
      eigenvalue: the dominant eigenvalue of the validation loss's Hessian in alphas then; None
        where no rule asks for it.
    """

    genotype: Genotype
    eigenvalue: float | None = None


class Stopping(NamedTuple):
    """A rule that may end a search.

    Attributes:
      rule: takes the records of all epochs so far and returns the epoch, counted from 1, whose
        alphas are the search's result; or None to go on. The search asks it after every epoch.
      eigenvalue: whether it needs eigenvalues.
    """

    rule: Callable[[Sequence[Record]], int | None]
    eigenvalue: bool = False


def skip_count(skips: Collection[str], limit: int = 2, part: str = "normal") -> Stopping:
    """Stops at the first epoch with so many skip connections (DARTS+; Liang et al., 2019).

    The published criterion is two or more of them in a normal cell; the result is that of the
    epoch that meets it. Nearly equal alphas may meet it by chance: where the first epochs hardly
    train alphas, raise the limit.

    Args:
      skips: names of the skip connections; `dnas.space.identities` knows those of a space.
      limit: number of skip connections at which to stop.
      part: the genotype's part to count in: ``'normal'`` in the DARTS space, ``'cell'`` in
        NAS-Bench-201.

    Raises:
      ValueError: the limit is not a whole number from 1, or there are no skip connections; or from
        the rule, when a genotype has no such part.
    """
    checks.whole("limit", limit)
    if not skips:
        raise ValueError(
            f"skips={skips!r}: expected the names of the skip connections to count in {part!r}; "
            "a space says which options are, see `dnas.space.Traits`"
        )

    def rule(records):
        genotype = records[-1].genotype
        if part not in genotype.parts():
            raise ValueError(f"part={part!r}: expected one of {sorted(genotype.parts())}")
        found = [option for option in genotype[part].values() if option in skips]
        return len(records) if len(found) >= limit else None

    return Stopping(rule)


def eigenvalue_ratio(ratio: float = 0.75, lag: int = 5, window: int = 5) -> Stopping:
    """Stops when the curvature in alphas grows fast (early stopping of Zela et al., 2020).

    Eigenvalues are averaged over the last `window` epochs. When the average of `lag` epochs ago is
    less than `ratio` times the present one, the result is that of `lag` epochs ago. The first
    epoch with both averages is ``window + lag``, the tenth as published: shorter searches never
    stop, and the steep rise from the first alphas stops none.

    This is the paper's rule. The authors' program measures every second epoch, centres its
    averages of five, stops where one is more than 1.3 times that of four measurements ago, and
    never goes back to one of the first ten epochs. Its eigenvalues contain the decay of alphas,
    0.001, which those of a search here do not.

    Args:
      ratio: published as 0.75.
      lag: epochs to look back, and to go back; published as 5.
      window: epochs of the average; published as 5.
    """
    checks.positive("ratio", ratio)
    checks.whole("lag", lag)
    checks.whole("window", window)

    def average(records):
        values = [record.eigenvalue for record in records[-window:]]
        return sum(values) / len(values)

    def rule(records):
        if len(records) < window + lag:
            return None
        before, now = average(records[:-lag]), average(records)
        return len(records) - lag if now > 0 and before < ratio * now else None

    return Stopping(rule, eigenvalue=True)
