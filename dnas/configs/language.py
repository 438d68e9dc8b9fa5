"""A recurrent cell for a text by characters, and whether the search helped; for a CPU.

    dnas search --config=language --config.data.path=TEXT.txt --workdir=runs/language

TEXT.txt is any text of 200,000 characters or more, such as a novel. The found cell and random ones
are trained on its first 175,000 characters, with the same budget and several seeds, and tested on
its last tenth.

Expected: three minutes on 2 CPU cores that do nothing else. On tinyshakespeare, with seed 0, random
cells are better than the found one: docs/language.md has the numbers.
"""

from typing import Any

from dnas.configs import darts_language


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    config = darts_language.get_config()
    config.space.update(
        channels=32,
        word_dropout=0.0,
        input_dropout=0.0,
        cell_dropout=0.0,
        hidden_dropout=0.0,
        output_dropout=0.0,
    )
    config.data.update(level="character", bptt=25, train_limit=7000, temporal_regularization=0.0)
    config.search.update(epochs=4, batch_size=16, learning_rate=10.0, final_learning_rate=1.0)
    config.compare_random = 4
    config.train.update(
        channels=None,
        epochs=4,
        batch_size=16,
        learning_rate=10.0,
        final_learning_rate=0.0,
        weight_decay=0.0,
        averaging=0,
    )
    return config
