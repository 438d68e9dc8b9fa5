"""Selections that decide row by row, while the supernet goes on training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas import checks, edges
from dnas.choices import Choice, Tables, choices_of, masked, ones, replaced, stacked
from dnas.evaluators.base import Score
from dnas.genotype import Genotype
from dnas.selection.base import Selected, Selection, Trained
from dnas.strategies.base import generator


def perturbation(epochs: float = 5.0) -> Selection:
    """What the supernet misses most (DARTS-PT; Wang et al., 2021, algorithms 1 and 2).

    Edge by edge, in random order, each option is taken out of the supernet; the one without which
    it validates worst is the edge's choice. Where nodes keep only some of their edges, all nodes
    follow in random order: they keep the edges without which the supernet validates worst. Between
    decisions the supernet is fine-tuned.

    As in the published code, the weights of the options that stay are not scaled up while one is
    out, and where there are several kinds of cells each of them takes a decision before the
    fine-tuning. Other than there, alphas stay as they are, and losses decide between equal
    accuracies.

    Args:
      epochs: of fine-tuning after each round of decisions; may be a fraction.
    """
    checks.not_negative("epochs", epochs, most=checks.MOST_WHOLE)

    def select(trained: Trained) -> Selected:
        supernet = _Shrinking(trained)

        def decisions():
            for lists in supernet.rounds(supernet.choices):
                yield supernet.decide_by_removal, lists
            for lists in supernet.rounds(_contested(supernet)):
                yield supernet.prune_by_removal, lists

        steps = trained.steps(epochs)
        for number, (decide, lists) in enumerate(decisions()):
            if number and steps:
                supernet.finetune(steps)
            for items in lists:
                decide(items.pop())
        return Selected(supernet.decided(), supernet.record)

    return select


def progressive(epochs: float = 5.0) -> Selection:
    """Decides the most certain row, searches on, and so forth until all are decided.

    Sequential greedy selection after SGAS (Li et al., 2020): with each decision the supernet comes
    closer to an architecture, and weights and alphas adapt to it. The certainty of a row is one
    minus the relative entropy of the options that the space can take, times their share of the
    row's weight; its choice is the strongest of them. Where nodes keep only some of their edges,
    the space decides by the weights that the choices had.

    Args:
      epochs: of search after each round of decisions, one in each part; may be a fraction.
    """
    checks.not_negative("epochs", epochs, most=checks.MOST_WHOLE)

    def select(trained: Trained) -> Selected:
        supernet, steps = _Shrinking(trained), trained.steps(epochs)
        strengths = {name: np.zeros_like(mask) for name, mask in supernet.masks.items()}
        for number, lists in enumerate(supernet.rounds(supernet.choices)):
            if number and steps:
                supernet.resume(steps)
            for choices in lists:
                choice = max(choices, key=lambda c: _certainty(c, supernet.mix))
                choices.remove(choice)
                supernet.decide_by_weight(choice, strengths)
        chosen = {choice.table for choice in supernet.choices}
        weights = {n: strengths[n] if n in chosen else supernet.mix[n] for n in strengths}
        return Selected(trained.space.discretize(weights), supernet.record)

    return select


class _Node(NamedTuple):
    """A node that keeps only some of its incoming edges."""

    part: str
    name: str
    incoming: tuple[Choice, ...]
    keep: int


class _Shrinking:
    """A supernet of which ever fewer options are left."""

    def __init__(self, trained: Trained):
        self.space, self.supernet = trained.space, trained.supernet
        self.state, self.mix = trained.supernet.state, trained.mix
        self.choices = choices_of(trained.space)
        self.masks = ones(trained.space)
        self.record: list[dict[str, Any]] = []
        self.rng = generator(trained.key)

    def finetune(self, steps: int) -> None:
        """Trains the weights of what is left."""
        self.state = self.supernet.finetune(self.state, self.mixed(), steps)

    def resume(self, steps: int) -> None:
        """Goes on with the search among what is left."""
        self.state, self.mix = self.supernet.resume(self.state, self.masks, steps)

    def mixed(self) -> Tables:
        """The mixing weights that are left."""
        return masked(self.mix, self.masks)

    def decided(self) -> Genotype:
        """The architecture of what is left, whatever the weights of whole edges."""
        return self.space.discretize(self.masks)

    def rounds(self, items: Sequence[Any]) -> Iterator[list[list[Any]]]:
        """Yields, until no items are left, one shuffled list for each part that has some.

        Whoever gets them takes one item out of each.
        """
        parts = list(dict.fromkeys(item.part for item in items))
        mine = [[item for item in items if item.part == part] for part in parts]
        lists = [[some[i] for i in self.rng.permutation(len(some))] for some in mine]
        while lists := [some for some in lists if some]:
            yield lists

    def without(self, removals: Mapping[str, tuple[Choice, Sequence[int]]]) -> dict[str, Score]:
        """How the supernet validates without some options of a row, for each removal."""
        mix = self.mixed()
        mixes = [replaced(mix, choice, list(out), 0.0) for choice, out in removals.values()]
        scores = self.supernet.validate(self.state, stacked(mixes)).each() if mixes else []
        return dict(zip(removals, scores, strict=True))

    def decide_by_removal(self, choice: Choice) -> None:
        """Leaves a row the option without which the supernet validates worst."""
        removals = {choice.options[o]: (choice, [o]) for o in choice.allowed}
        scores = self.without(removals if len(removals) > 1 else {})
        option = _worst_first(scores)[0] if scores else next(iter(removals))
        self._leave(choice, choice.options.index(option))
        self._note(choice.place | {"option": option}, scores)

    def prune_by_removal(self, node: _Node) -> None:
        """Leaves a node the edges without which the supernet validates worst."""
        choices = {choice.row: choice for choice in node.incoming}
        removals = {row: (c, range(len(c.options))) for row, c in choices.items()}
        scores = self.without(removals)
        order = _worst_first(scores)
        for row in order[node.keep :]:
            self.masks[choices[row].table][choices[row].index] = 0
        place = {"part": node.part, "node": node.name}
        self._note(place | {"kept": order[: node.keep]}, scores)

    def decide_by_weight(self, choice: Choice, strengths: Tables) -> None:
        """Leaves a row its strongest option, and notes how strong it was."""
        weights = self.mix[choice.table][choice.index]
        option = max(choice.allowed, key=lambda o: weights[o])
        strengths[choice.table][choice.index, option] = weights[option]
        found = {"option": choice.options[option], "certainty": _certainty(choice, self.mix)}
        self._leave(choice, option)
        self._note(choice.place | found)

    def _leave(self, choice: Choice, option: int) -> None:
        self.masks[choice.table][choice.index] = 0
        self.masks[choice.table][choice.index, option] = 1

    def _note(self, decision: dict[str, Any], without: Mapping[str, Score] | None = None) -> None:
        facts = {name: score.facts for name, score in (without or {}).items()}
        self.record.append(decision | ({"without": facts} if facts else {}))


def _contested(supernet: _Shrinking) -> list[_Node]:
    """The nodes that keep fewer edges than lead to them, once all edges have one option."""
    genotype = supernet.decided()
    dropped = [c for c in supernet.choices if c.row not in genotype[c.part]]
    nodes = []
    for part, target in dict.fromkeys((c.part, edges.ends(c.row)[1]) for c in dropped):
        mine = [c for c in supernet.choices if (c.part, edges.ends(c.row)[1]) == (part, target)]
        keep = sum(c.row in genotype[part] for c in mine)
        nodes.append(_Node(part, str(target), tuple(mine), keep))
    return nodes


def _worst_first(scores: Mapping[str, Score]) -> list[str]:
    return sorted(scores, key=lambda name: scores[name].order)


def _certainty(choice: Choice, mix: Mapping[str, np.ndarray]) -> float:
    """One minus the relative entropy of the allowed options, times their share of the weight."""
    weights = np.asarray(mix[choice.table][choice.index], np.float64)
    allowed = weights[list(choice.allowed)]
    if len(allowed) == 1 or allowed.sum() <= 0:
        return float(len(allowed) == 1)
    p = allowed[allowed > 0] / allowed.sum()
    entropy = -(p * np.log(p)).sum() / math.log(len(allowed))
    return float((1 - entropy) * allowed.sum() / weights.sum())
