"""Checks that several spaces share."""

from typing import Any

from dnas.genotype import Genotype


def check_positive(space: Any, *fields: str) -> None:
    """Raises ValueError unless these fields of a space are positive whole numbers."""
    for field in fields:
        value = getattr(space, field)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{field}={value!r}: expected a whole number of at least 1")


def check_choices(genotype: Genotype, space: str, parts: tuple[str, ...]) -> None:
    """Raises ValueError unless a genotype names this space and has exactly these parts."""
    if genotype.space != space:
        raise ValueError(
            f"this genotype belongs to the space {genotype.space!r}, expected {space!r}"
        )
    if sorted(genotype.parts()) != sorted(parts):
        raise ValueError(f"expected the parts {parts}, got {genotype.parts()}")
