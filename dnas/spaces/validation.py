"""Checks that several spaces share."""

from typing import Any

from dnas import checks
from dnas.genotype import Genotype
from dnas.nn import operations


def check_positive(space: Any, *fields: str) -> None:
    """Raises ValueError unless these fields of a space are positive whole numbers."""
    for field in fields:
        checks.whole(field, getattr(space, field))


def check_candidates(where: str, candidates: tuple[str, ...]) -> None:
    """Raises ValueError unless a row has distinct, known candidates and one beside 'none'."""
    operations.require(candidates)
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"{where} has a candidate twice: {candidates}")
    if not set(candidates) - {"none"}:
        raise ValueError(f"{where} has no candidate beside 'none': {candidates}")


def check_choices(genotype: Genotype, space: str, parts: tuple[str, ...]) -> None:
    """Raises ValueError unless a genotype names this space and has exactly these parts."""
    if genotype.space != space:
        raise ValueError(
            f"this genotype belongs to the space {genotype.space!r}, expected {space!r}"
        )
    if sorted(genotype.parts()) != sorted(parts):
        raise ValueError(f"expected the parts {parts}, got {genotype.parts()}")
