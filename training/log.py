"""The messages of a run on the screen: once, however many processes it has."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


class ScreenHandler(logging.Handler):
    """Print messages as they are; those of the first process only, as torchrun and Accelerate number them."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("RANK", "0") == "0":
            print(self.format(record))


logger = logging.getLogger("training")
logger.setLevel(logging.INFO)
logger.propagate = False
logger.addHandler(ScreenHandler())


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers say nothing but errors inside of the block."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
