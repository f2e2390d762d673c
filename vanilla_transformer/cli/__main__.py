"""`python -m vanilla_transformer.cli` is `vanilla-transformer`."""

import sys

from . import main

sys.exit(main())
