"""
The mean of several checkpoints (§6.1): base models average their last 5, big models their last 20.

    python -m training.averaging --output runs/mean runs/base/checkpoint-9000 runs/base/checkpoint-10000
"""

import argparse
import sys
from pathlib import Path

from training.engine.averaging import write_mean
from vanilla_transformer.errors import run_command


def main(arguments: list[str] | None = None) -> int:
    """Average what the command names; returns the exit status."""
    parser = argparse.ArgumentParser(description="Average checkpoints (§6.1).")
    parser.add_argument("checkpoints", nargs="+", type=Path, help="folders with a model.safetensors")
    parser.add_argument("--output", required=True, type=Path, help="folder for the mean, with the last one's files")
    options = parser.parse_args(arguments)

    def average() -> int:
        write_mean(options.checkpoints, options.output)
        print(f"Mean of {len(options.checkpoints)} checkpoints in {options.output}")
        return 0

    return run_command(average)


if __name__ == "__main__":
    sys.exit(main())
