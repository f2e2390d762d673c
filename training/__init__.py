"""The training program of vanilla_transformer: what a clone of the repository runs."""

import signal
import sys

from vanilla_transformer_launcher import limit_spinning

if sys.argv[:1] == ["-m"]:  # `python -m training.train` is being started, and torch is not loaded yet
    limit_spinning()
    if "training.train" in sys.orig_argv and {"-h", "--help"} & set(sys.argv):
        from training.recipe.help import describe_fields

        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has seen enough
        print(describe_fields())
        sys.exit(0)
