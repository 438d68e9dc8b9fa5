"""The four small search spaces S1 to S4, on which DARTS degenerates.

Zela et al., "Understanding and Robustifying Differentiable Architecture Search" (ICLR 2020,
section 3), with the operations of each edge as their published code lists them
(https://github.com/automl/RobustDARTS). The spaces have the cells of DARTS (2 input nodes,
4 intermediate nodes), with fewer candidates:

- S1: two operations an edge, different ones on every edge;
- S2: ``skip_connect`` and ``sep_conv_3x3`` everywhere;
- S3: ``none``, ``skip_connect`` and ``sep_conv_3x3`` everywhere;
- S4: ``noise`` and ``sep_conv_3x3`` everywhere. The noise replaces its input by samples of a
  standard normal distribution, of the input's shape after striding: a harmful operation that
  no search should take.

None but S3 has ``none``; S1 needs one table of decisions for each set of operations.
"""

EDGES = (
    *("0->2", "1->2"),
    *("0->3", "1->3", "2->3"),
    *("0->4", "1->4", "2->4", "3->4"),
    *("0->5", "1->5", "2->5", "3->5", "4->5"),
)

_SKIP_OR_SEP = (("skip_connect", "sep_conv_3x3"),) * len(EDGES)
_NONE_SKIP_OR_SEP = (("none", "skip_connect", "sep_conv_3x3"),) * len(EDGES)
_NOISE_OR_SEP = (("noise", "sep_conv_3x3"),) * len(EDGES)

SPACES = {
    "s1": {
        "normal": (
            ("skip_connect", "dil_conv_3x3"),
            ("skip_connect", "dil_conv_5x5"),
            ("skip_connect", "dil_conv_5x5"),
            ("skip_connect", "sep_conv_3x3"),
            ("skip_connect", "dil_conv_3x3"),
            ("max_pool_3x3", "skip_connect"),
            ("skip_connect", "sep_conv_3x3"),
            ("skip_connect", "sep_conv_3x3"),
            ("skip_connect", "dil_conv_3x3"),
            ("skip_connect", "sep_conv_3x3"),
            ("max_pool_3x3", "skip_connect"),
            ("skip_connect", "dil_conv_3x3"),
            ("dil_conv_3x3", "dil_conv_5x5"),
            ("dil_conv_3x3", "dil_conv_5x5"),
        ),
        "reduce": (
            ("max_pool_3x3", "avg_pool_3x3"),
            ("max_pool_3x3", "dil_conv_3x3"),
            ("max_pool_3x3", "avg_pool_3x3"),
            ("max_pool_3x3", "avg_pool_3x3"),
            ("skip_connect", "dil_conv_5x5"),
            ("max_pool_3x3", "avg_pool_3x3"),
            ("max_pool_3x3", "sep_conv_3x3"),
            ("skip_connect", "dil_conv_3x3"),
            ("skip_connect", "dil_conv_5x5"),
            ("max_pool_3x3", "avg_pool_3x3"),
            ("max_pool_3x3", "avg_pool_3x3"),
            ("skip_connect", "dil_conv_5x5"),
            ("skip_connect", "dil_conv_5x5"),
            ("skip_connect", "dil_conv_5x5"),
        ),
    },
    "s2": {"normal": _SKIP_OR_SEP, "reduce": _SKIP_OR_SEP},
    "s3": {"normal": _NONE_SKIP_OR_SEP, "reduce": _NONE_SKIP_OR_SEP},
    "s4": {"normal": _NOISE_OR_SEP, "reduce": _NOISE_OR_SEP},
}
"""For each space and cell, the candidates of each edge, in the order of `EDGES`."""
