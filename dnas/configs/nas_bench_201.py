"""First-order DARTS on CIFAR-10 in the NAS-Bench-201 space, as published.

Liu et al., 2019, with the supernet of Dong and Yang, 2020: C=16, 5 cells a stage, 50 epochs of
390 steps. For an accelerator; `nas_bench_201_cpu` is the reduced form. CIFAR-10 must be
prepared (``--config.data.data_dir``), and ``--config.table`` says how good the result is.

Expected: 50 epochs of 390 steps; a step takes 1.4 s on 2 CPU cores, so 8 hours there. Not yet run
to its end. Published for this setting: first-order DARTS drifts to skip connections, 54.30 % test
accuracy on CIFAR-10 (Dong and Yang, 2020).
"""

from typing import Any

from dnas.configs import base


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    return base.make("nas_bench_201")
