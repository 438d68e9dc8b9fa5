"""The command of the study."""

from absl import app

from experiments.studies.methods import run

__doc__ = run.__doc__  # which --help shows

if __name__ == "__main__":
    app.run(run.main)
