"""What a run says on the screen: once, however many processes it has."""

import logging
import os


class ScreenHandler(logging.Handler):
    """Print messages as they are; those of the first process only, as torchrun and Accelerate number them."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("RANK", "0") == "0":
            print(self.format(record))


logger = logging.getLogger("training")
logger.setLevel(logging.INFO)
logger.propagate = False
logger.addHandler(ScreenHandler())
