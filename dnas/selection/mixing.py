"""Selections that ask nothing but the mixing weights."""

import collections
from collections.abc import Sequence

import numpy as np

from dnas import checks
from dnas.choices import Choice, Tables, choices_of, replaced
from dnas.selection.base import Selected, Selection, Trained

_FAINT = 1e-6  # less than any weight that counts
_CLEAR = 2.0  # an option with so many times the weight of another one leads clearly


def strongest() -> Selection:
    """The architecture of the largest mixing weights, as the space's paper has it."""
    return lambda trained: Selected(trained.space.discretize(trained.mix), [])


def limited_skips(limit: int = 2, every_part: bool = False) -> Selection:
    """The largest mixing weights, with no more than so many skip connections.

    The last step of P-DARTS (Chen et al., 2019): while the architecture has more of them, the
    weakest of their operations loses its weight, and the space decides anew: for another
    operation, the first that computes something where none has weight, or for another edge where
    nodes keep only some. A skip connection without an alternative stays.

    Args:
      limit: of skip connections in a part; published as 2.
      every_part: whether that holds for all parts of the genotype, or only for the space's first,
        which are normal cells in the DARTS space, as published.

    Raises:
      ValueError: `limit` is negative.
    """
    checks.whole("limit", limit, least=0)

    def select(trained: Trained) -> Selected:
        tables, record = {n: np.asarray(t) for n, t in trained.mix.items()}, []
        parts = list(dict.fromkeys(choice.part for choice in choices_of(trained.space)))
        limited = parts if every_part else parts[:1]
        while True:
            genotype = trained.space.discretize(tables)
            skips = [
                choice
                for choice in choices_of(trained.space)
                if choice.part in limited and choice.is_skip(genotype[choice.part].get(choice.row))
            ]
            counts = collections.Counter(choice.part for choice in skips)
            weights = {}
            for choice in skips:
                option = choice.options.index(genotype[choice.part][choice.row])
                weight = float(tables[choice.table][choice.index, option])
                if counts[choice.part] > limit and weight > 0:
                    weights[choice, option] = weight
            if not weights:
                return Selected(genotype, record)
            weakest, option = min(weights, key=lambda place: weights[place])
            facts = {"without": weakest.options[option], "weight": weights[weakest, option]}
            record.append(weakest.place | facts)
            tables = replaced(tables, weakest, option, 0.0)
            if not tables[weakest.table][weakest.index].any():  # sparse mixes
                others = [o for o in weakest.allowed if not weakest.traits[o].idle]
                tables = replaced(tables, weakest, others, _FAINT)

    return select


def largest_of_close(start: Selection | None = None, deviations: float = 1.0) -> Selection:
    """Of options whose mixing weights are close to the row's largest, that of most parameters.

    Which of close options leads depends on the seed, and the number of parameters is the better
    guess: over all architectures of NAS-Bench-201 its rank correlation with the validation accuracy
    is 0.71 (as a predictor of accuracy: White et al., A Deeper Look at Zero-Cost Proxies, 2022).
    That of a skip connection counts as none, strided or not. The option changes weights with the
    one that led, so that the order of rows, such as of edges to be kept, stays as it was for
    `start`.

    Args:
      start: selects with those weights, by their order; `strongest` by default.
      deviations: what is close. Logarithms of two weights, which are logits for a softmax, differ
        by no more than so many standard deviations: those of a row's options, in the median row of
        the part. So neither a temperature nor a decay of all logits makes a difference. However
        decided the other rows are, half the weight of the one that leads is never close.

    In spaces whose costs are unknown, those without `dnas.capabilities.Costed`, this is `start`
    alone, and the record says so.
    """
    checks.positive("deviations", deviations)
    start = start or strongest()

    def select(trained: Trained) -> Selected:
        if trained.parameters is None:
            genotype, record = start(trained)
            return Selected(genotype, [{"parameters": "unknown"}, *record])
        mix, record, parameters = dict(trained.mix), [], trained.parameters()
        choices = [c for c in choices_of(trained.space) if c.table in parameters]
        limits = _limits(trained.mix, choices, deviations)
        for choice in choices:
            logits = _logits(trained.mix, choice)
            counted = np.array([not traits.identity for traits in choice.traits])
            sizes = parameters[choice.table][choice.index] * counted
            if not logits:
                continue
            first = max(logits, key=lambda option: logits[option])
            behind = {option: logits[first] - logits[option] for option in logits}
            close = [option for option in logits if behind[option] <= limits[choice.part]]
            best = max(close, key=lambda option: (sizes[option], logits[option]))
            if best != first:
                mix = _exchanged(mix, choice, first, best)
                names = {"option": choice.options[best], "rather_than": choice.options[first]}
                record.append(choice.place | names | {"behind": behind[best]})
        genotype, rest = start(trained._replace(mix=mix))
        return Selected(genotype, [*record, *rest])

    return select


def _logits(mix: Tables, choice: Choice) -> dict[int, float]:
    """Logarithms of the weights of options that can be taken and have any."""
    weights = np.asarray(mix[choice.table][choice.index], np.float64)
    positive = [option for option in choice.allowed if 0 < weights[option] < np.inf]
    return {option: float(np.log(weights[option])) for option in positive}


def _limits(mix: Tables, choices: Sequence[Choice], deviations: float) -> dict[str, float]:
    """By part, by how much close logits differ: as those of the median row deviate."""
    found = collections.defaultdict(list)
    for choice in choices:
        logits = list(_logits(mix, choice).values())
        found[choice.part].append(np.std(logits, ddof=1) if len(logits) > 1 else 0.0)
    clear = np.nextafter(np.log(_CLEAR), 0)
    return {part: float(min(deviations * np.median(s), clear)) for part, s in found.items()}


def _exchanged(mix: Tables, choice: Choice, first: int, best: int) -> Tables:
    """The tables where two options of a row change weights, the second leading alone."""
    row: np.ndarray = np.array(mix[choice.table][choice.index])
    peak, row[first] = row[first], row[best]
    row[row == peak] = np.nextafter(peak, 0 * peak)  # where they tie
    row[best] = peak
    return replaced(mix, choice, slice(None), row)
