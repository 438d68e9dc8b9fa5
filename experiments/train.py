"""The launcher of `dnas.cli.train`: python -m experiments.train --help."""

import sys

if __name__ == "__main__":
    from experiments import starting

    starting.heed_signals()

    from dnas.cli import train

    train.main(sys.argv)
