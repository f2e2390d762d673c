"""
The settings before torch is loaded, and the console script `vanilla-transformer`.

It lies beside the package, since importing anything in that loads torch.
"""

import os

# Turns of the loop in which a thread waits before it sleeps; GNU OpenMP's own are 300,000, some milliseconds. With far
# fewer than these, programs get slower on quiet cores (docs/performance.md).
SPIN_COUNT = 10000


def limit_spinning() -> None:
    """
    Let the threads of GNU OpenMP, which torch uses on Linux, sleep soon where they wait for each other.

    Otherwise they spin, and where other programs keep the cores busy each spins away the time that the others need. It
    has no effect once torch is loaded, nor on other OpenMP libraries (Windows, macOS), which do not read this setting.
    Settings that are in the environment already stay.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def main() -> int:
    """Run the command line; returns the exit status."""
    limit_spinning()
    from vanilla_transformer.cli import main as run

    return run()
