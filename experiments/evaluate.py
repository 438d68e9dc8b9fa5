"""Tests a trained network; see `dnas.cli.evaluate`.

python -m experiments.evaluate --run=runs/digits-trained/seed-0
"""

import sys

from dnas.cli import evaluate

if __name__ == "__main__":
    sys.exit(evaluate.main(sys.argv))
