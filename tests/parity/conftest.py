"""What all comparisons share."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _own_numbers(request, monkeypatch):
    """Gives each test random numbers that do not depend on which tests ran before it."""
    monkeypatch.setattr(request.module, "RNG", np.random.default_rng(1), raising=False)
