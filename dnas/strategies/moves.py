"""Moves of `dnas.strategies.Racing` from one architecture to another."""

from typing import NamedTuple

from dnas.choices import Choice, Tables, choices_of, one_hot, replaced
from dnas.genotype import Genotype
from dnas.space import SearchSpace


class Option(NamedTuple):
    """Another option for one row."""

    choice: Choice
    option: int

    @property
    def place(self) -> dict[str, str]:
        """What it decides, for a record."""
        return self.choice.place | {"option": self.choice.options[self.option]}

    def apply(self, space: SearchSpace, mix: Tables, genotype: Genotype) -> Genotype:
        """The architecture after it.

        Args:
          space: the search space.
          mix: mixing weights. A row that was left out takes the place of the weakest.
          genotype: the architecture before.
        """
        tables = one_hot(space, genotype, mix)
        for name in {choice.table for choice in choices_of(space)}:
            tables[name] = tables[name] * (1 + mix[name])
        peak = 2 * max(float(table.max()) for table in tables.values())
        cleared = replaced(tables, self.choice, slice(None), 0.0)
        return space.discretize(replaced(cleared, self.choice, self.option, peak))


class Without(NamedTuple):
    """No more of an operation: all rows that have it take their strongest other option."""

    option: str

    @property
    def place(self) -> dict[str, str]:
        """What it decides, for a record."""
        return {"without": self.option}

    def apply(self, space: SearchSpace, mix: Tables, genotype: Genotype) -> Genotype:
        """The architecture after it; rows that can be nothing else keep the operation.

        Args:
          space: the search space.
          mix: mixing weights, which say what is strongest.
          genotype: the architecture before.
        """
        tables = one_hot(space, genotype, mix)
        for choice in choices_of(space):
            others = [o for o in choice.allowed if choice.options[o] != self.option]
            if others and genotype[choice.part].get(choice.row) == self.option:
                best = max(others, key=mix[choice.table][choice.index].__getitem__)
                cleared = replaced(tables, choice, slice(None), 0.0)
                tables = replaced(cleared, choice, best, 1.0)
        return space.discretize(tables)


Move = Option | Without
