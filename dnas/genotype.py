"""Genotypes: which option each decision took, as plain data.

A genotype is immutable, compares by value, and travels as JSON. The text forms in which
DARTS and NAS-Bench-201 publish architectures belong to their spaces: see
`SearchSpace.parse` and `SearchSpace.format`.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, cast

from dnas import checks

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
        """Makes a genotype from ``{part: {row: option}}``.

        Raises:
          ValueError: the space is no name, or the choices are not of that form.
        """
        if not isinstance(space, str):
            raise ValueError(f"a genotype's 'space' must be a name, got {checks.shown(space)}")
        if not _is_nested(choices):
            raise ValueError(
                "a genotype's 'choices' must be {part: {row: option}} of names, "
                f"got {checks.shown(choices)}"
            )
        return cls(space, tuple((part, tuple(rows.items())) for part, rows in choices.items()))

    def _chosen(self) -> tuple:
        return self.space, frozenset((part, frozenset(rows)) for part, rows in self.choices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genotype) and self._chosen() == other._chosen()

    def __hash__(self) -> int:
        return hash(self._chosen())

    def __repr__(self) -> str:
        parts = [
            f"{part} {', '.join(f'{row} {option}' for row, option in rows)}"
            for part, rows in self.choices
        ]
        return f"Genotype({self.space}: {'; '.join(parts)})"

    def __getitem__(self, part: str) -> dict[str, str]:
        parts = dict(self.choices)
        if part not in parts:
            raise KeyError(
                f"no part {checks.shown(part)} in this genotype; it has "
                f"{checks.shown(sorted(parts))}"
            )
        return dict(parts[part])

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, the same for equal genotypes: a name for files."""
        chosen = sorted((part, *pair) for part, rows in self.choices for pair in rows)
        return hashlib.sha256(repr((self.space, chosen)).encode()).hexdigest()[:16]

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
          ValueError: the text is no JSON, names a key twice, or is not of this schema.
        """
        try:
            data = json.loads(text, object_pairs_hook=_distinct)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"a genotype must be JSON, got {checks.shown(text)}: {error}"
            ) from error
        schema = data.get("schema") if isinstance(data, dict) else None
        if type(schema) is not int or schema != SCHEMA:
            found = checks.shown(schema if isinstance(data, dict) else type(data).__name__)
            raise ValueError(f"expected a genotype of schema {SCHEMA}, got {found}: is it one?")
        content = cast(Any, data)  # `create` checks it
        return cls.create(content.get("space"), content.get("choices"))

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the genotype as JSON."""
        pathlib.Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Genotype":
        """Reads a genotype that `save` wrote.

        Raises:
          ValueError: the file holds none; the message names it.
        """
        try:
            return cls.from_json(pathlib.Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError where a key occurs twice, of which JSON takes the last."""
    data = dict(pairs)
    if len(data) < len(pairs):
        [(twice, _)] = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {checks.shown(twice)} occurs twice in an object")
    return data


def _is_nested(choices: Any) -> bool:
    """Whether these are ``{part: {row: option}}``, names all of them."""
    return isinstance(choices, Mapping) and all(
        isinstance(part, str)
        and isinstance(rows, Mapping)
        and all(isinstance(name, str) for pair in rows.items() for name in pair)
        for part, rows in choices.items()
    )
