"""Errors that are meant for the user: one line that names the field, file or option, its value and the remedy."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Errors of a system about a call that is wrong by itself, and not about the file, disk or network that it is for.
WRONG_CALLS = frozenset({errno.EBADF, errno.ECHILD, errno.EFAULT, errno.EINVAL, errno.ENOTTY, errno.ESRCH})


class UserError(ValueError):
    """
    Invalid input, with a message meant for the user.

    Only these become a line on the screen: a bug, of ours or of a library, keeps its traceback. It is a `ValueError`
    for those who use this package as a library. A word of 300 characters or more, as of a damaged file, is cut.
    """

    def __str__(self) -> str:
        return re.sub(r"(\S{100})\S{200,}", r"\1...", super().__str__())


class RecipeError(UserError):
    """A recipe field, or a setting that follows from several of them."""


class TextError(UserError):
    """A text that cannot be read."""


class ModelFolderError(UserError):
    """A folder or a repository without a usable model."""


class ModelCardError(UserError):
    """Metadata that the Hub would refuse or misread."""


class ConversionError(UserError):
    """A model that another implementation cannot hold."""


class HubError(UserError):
    """A token, a repository or a push that the Hub refuses."""


class MetricError(UserError):
    """Lines or settings that a score cannot be computed from."""


class SettingsError(UserError):
    """Options of a command, or settings of `generate`, that do not fit a model or each other."""


class FirstProcessError(RuntimeError):
    """Raised in all other processes when the first one fails; the traceback is the first one's."""


class Terminated(BaseException):
    """Received SIGTERM before the first step or after the last, where there is nothing to save."""


@contextmanager
def settings_of_the_user(*kinds: type[Exception]) -> Iterator[None]:
    """
    Raise what a library says of the user's settings as a `SettingsError`.

    For the calls which check settings only while they work, as `generate` does.

    Args:
        kinds: the exceptions by which the library refuses settings.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        raise SettingsError(str(error)) from error


def run_command(command: Callable[[], int], interrupted: str = "interrupted") -> int:
    """
    Run a command and return its exit status: 2 after a line on a user's error, 130 after Ctrl-C.

    An error of the machine about a file, a disk or the network is a line too. All other exceptions are bugs and pass.

    Args:
        interrupted: the line to print after Ctrl-C.
    """
    try:
        return command()
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and is_bug(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def is_bug(error: OSError) -> bool:
    """Return whether a wrong call or a missing file of this package, which no user can mend, caused an error."""
    if isinstance(error.filename, str):
        return Path(__file__).parent in Path(error.filename).absolute().parents
    return error.errno in WRONG_CALLS
