"""The launcher of `dnas.cli.train`: python -m experiments.train --help."""

if __name__ == "__main__":
    from experiments import starting

    starting.heed_signals()

    from dnas.cli import train

    __doc__ = train.__doc__  # which --help shows
    train.main()
