"""First-order DARTS for recurrent cells of a text by words, as published (Liu et al., 2019).

    dnas search --config=darts_language --config.data.path=TEXTS --workdir=runs/language

TEXTS is a folder with train.txt, valid.txt and test.txt, such as the Penn Treebank of 10,000 words.
300 channels, batches of 256 windows of 35 words, 50 epochs; for an accelerator. `dnas train` trains
the result with 850 channels, and with one word of ten left out (``word_dropout``).

Where the authors' program differs: the weights are trained on the whole train text, and alphas on
the validation text; windows have other lengths in each step.

Expected: this wants an accelerator. Not yet run to its end. Published: perplexity 55.7 on the test
text of the Penn Treebank, with 23 million parameters (Liu et al., 2019, table 2).
"""

from typing import Any

from ml_collections import ConfigDict

from dnas.training import published


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    return ConfigDict(
        {
            "seed": 0,
            "preset": "darts",
            "space": {"name": "recurrent", "channels": 300, "nodes": 8, "word_dropout": 0.1},
            "data": {"name": "text", "level": "word", "bptt": 35, "temporal_regularization": 1e-3},
            "search": {
                "epochs": 50,
                "batch_size": 256,
                "learning_rate": 20.0,
                "final_learning_rate": 20.0,
                "momentum": 0.0,
                "weight_decay": 5e-7,
                "clip_norm": 0.25,
                "alpha_learning_rate": 3e-3,
                "alpha_betas": (0.9, 0.999),
                "alpha_weight_decay": 1e-3,
            },
            "compare_random": 0,
            "train": published.published("recurrent"),
        }
    )
