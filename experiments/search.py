"""The launcher of `dnas.cli.search`: python -m experiments.search --help."""

if __name__ == "__main__":
    from experiments import starting

    starting.heed_signals()

    from dnas.cli import search

    __doc__ = search.__doc__  # which --help shows
    search.main()
