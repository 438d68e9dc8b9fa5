"""First-order DARTS on CIFAR-10 in the DARTS space, as published (Liu et al., 2019).

C=16, 8 cells, batch 64, 50 epochs of 390 steps; for an accelerator. Second order is
``--config.search.hypergradient.name=unrolled``. `dnas train` trains the result with the
recipe in the section `train`.

Expected: a step takes 6 s on 2 CPU cores (after 40 s of compilation), so this wants an
accelerator. Not yet run to its end. Published: 3.00 +- 0.14 % test error after training the found
cell (Liu et al., 2019, table 1).
"""

from typing import Any

from dnas.configs import base


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    return base.make("darts")
