"""The training program without its scores of text as people type it, which take a model of a few steps a minute."""

import sys

from training.tasks import translation
from training.train import main

if __name__ == "__main__":
    translation.measure = lambda *arguments: []
    sys.exit(main())
