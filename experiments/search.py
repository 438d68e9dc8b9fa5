"""The launcher of `dnas.cli.search`: python -m experiments.search --help."""

import sys

if __name__ == "__main__":
    from experiments import starting

    starting.heed_signals()

    from dnas.cli import search

    search.main(sys.argv)
