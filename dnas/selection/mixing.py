"""Selections that ask nothing but the mixing weights."""

import collections
import functools

import numpy as np

from dnas import checks
from dnas.selection.shared import Choice, Selected, Selection, Shared, Tables, choices_of, replaced

_SKIP = "skip_connect"
_FAINT = 1e-6  # less than any weight that counts


def strongest() -> Selection:
    """The architecture of the largest mixing weights, as the space's paper has it."""
    return lambda shared: Selected(shared.space.discretize(shared.mix), [])


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

    def weight(tables: Tables, choice: Choice) -> float:
        return float(tables[choice.table][choice.index, choice.options.index(_SKIP)])

    def select(shared: Shared) -> Selected:
        tables, record = {n: np.asarray(t) for n, t in shared.mix.items()}, []
        parts = list(dict.fromkeys(choice.part for choice in choices_of(shared.space)))
        limited = parts if every_part else parts[:1]
        while True:
            genotype = shared.space.discretize(tables)
            skips = [
                choice
                for choice in choices_of(shared.space)
                if choice.part in limited and genotype[choice.part].get(choice.row) == _SKIP
            ]
            counts = collections.Counter(choice.part for choice in skips)
            removable = [c for c in skips if counts[c.part] > limit and weight(tables, c) > 0]
            if not removable:
                return Selected(genotype, record)
            weakest = min(removable, key=functools.partial(weight, tables))
            record.append(weakest.place | {"without": _SKIP, "weight": weight(tables, weakest)})
            tables = replaced(tables, weakest, weakest.options.index(_SKIP), 0.0)
            if not tables[weakest.table][weakest.index].any():  # sparse mixes
                idle = (_SKIP, "none")
                others = [o for o in weakest.allowed if weakest.options[o] not in idle]
                tables = replaced(tables, weakest, others, _FAINT)

    return select


def largest_of_close(start: Selection | None = None, deviations: float = 1.0) -> Selection:
    """Of options whose mixing weights are close to the row's largest, that of most parameters.

    A search does not tell options apart that lead with some seeds and not with others, and those
    with more parameters are the better guess: their number ranks architectures about as well as
    most zero-cost proxies do (White et al., 2022). The option takes over the weight of the one that
    led, so that what else is decided by its size, such as which edges are kept, stays as it was.

    Args:
      start: selects with those weights; `strongest` by default.
      deviations: what is close: logarithms of two weights differ by no more than so many standard
        deviations of all positive weights of the table, whatever the temperature, or a decay, makes
        of their scale.

    In spaces whose costs are unknown (`dnas.costs.sites`), this is `start` alone.
    """
    checks.positive("deviations", deviations)
    start = start or strongest()

    def select(shared: Shared) -> Selected:
        if shared.parameters is None:
            return start(shared)
        mix, record, parameters = dict(shared.mix), [], shared.parameters()
        for choice in (choice for choice in choices_of(shared.space) if choice.table in parameters):
            every = np.asarray(shared.mix[choice.table])
            limit = deviations * np.log(every[every > 0], dtype=np.float64).std()
            weights, sizes = every[choice.index].copy(), parameters[choice.table][choice.index]
            allowed = [option for option in choice.allowed if weights[option] > 0]
            if not allowed:
                continue
            first = max(allowed, key=lambda option: weights[option])
            behind = {option: float(np.log(weights[first] / weights[option])) for option in allowed}
            close = [option for option in allowed if behind[option] <= limit]
            best = max(close, key=lambda option: (sizes[option], weights[option]))
            if best != first:
                peak = weights[first]
                weights[allowed] = np.minimum(weights[allowed], np.nextafter(peak, 0 * peak))
                weights[best] = peak
                mix = replaced(mix, choice, slice(None), weights)
                names = {"option": choice.options[best], "rather_than": choice.options[first]}
                record.append(choice.place | names | {"behind": behind[best]})
        genotype, rest = start(shared._replace(mix=mix))
        return Selected(genotype, [*record, *rest])

    return select
