"""Genotypes: which option each decision took, as plain data.

A genotype is immutable, compares by value, and travels as JSON. The text forms in which
DARTS and NAS-Bench-201 publish architectures belong to their spaces: see
`SearchSpace.parse` and `SearchSpace.format`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

SCHEMA = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Genotype:
    """One architecture.

    Genotypes are equal when they choose the same options, in whatever order they list them.

    Attributes:
      space: name of the search space it belongs to.
      choices: for each part (a cell, say) its name and the pairs of row and option chosen:
        ``(('normal', (('0->2', 'sep_conv_3x3'), ...)), ...)``. `create` makes it from
        dictionaries, and indexing (``genotype['normal']``) gives one part as a dictionary.
    """

    space: str
    choices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

    @classmethod
    def create(cls, space: str, choices: Mapping[str, Mapping[str, str]]) -> "Genotype":
        """Makes a genotype from ``{part: {row: option}}``."""
        return cls(space, tuple((part, tuple(rows.items())) for part, rows in choices.items()))

    def _chosen(self) -> tuple:
        return self.space, frozenset((part, frozenset(rows)) for part, rows in self.choices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genotype) and self._chosen() == other._chosen()

    def __hash__(self) -> int:
        return hash(self._chosen())

    def __getitem__(self, part: str) -> dict[str, str]:
        parts = dict(self.choices)
        if part not in parts:
            raise KeyError(f"no part {part!r} in this genotype; it has {sorted(parts)}")
        return dict(parts[part])

    def parts(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(name for name, _ in self.choices)

    def to_json(self) -> str:
        """The genotype as JSON text, with the schema's version."""
        choices = {part: dict(rows) for part, rows in self.choices}
        data = {"schema": SCHEMA, "space": self.space, "choices": choices}
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Reads what `to_json` wrote.

        Raises:
          ValueError: the text is no JSON, or not of this schema.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"a genotype must be JSON, got {text[:60]!r}: {error}") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"expected a genotype of schema {SCHEMA}, got {found!r}: is it one?")
        space, choices = data.get("space"), data.get("choices")
        if not isinstance(space, str):
            raise ValueError(f"a genotype's 'space' must be a name, got {space!r}")
        if not isinstance(choices, dict) or not all(
            isinstance(rows, dict) and all(isinstance(option, str) for option in rows.values())
            for rows in choices.values()
        ):
            raise ValueError(
                f"a genotype's 'choices' must be {{part: {{row: option}}}}, got {choices!r}"
            )
        return cls.create(space, choices)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the genotype as JSON."""
        pathlib.Path(path).write_text(self.to_json())

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Genotype":
        """Reads a genotype that `save` wrote."""
        return cls.from_json(pathlib.Path(path).read_text())
