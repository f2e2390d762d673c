import pickle
from pathlib import Path

import pytest

from vanilla_transformer import errors
from vanilla_transformer.errors import ConversionError, SettingsError, UserError, run_command, settings_of_the_user

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)]


def fail(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_s_error_is_one_line(kind, capsys):
    assert run_command(fail(kind("`field` must be 1, but is 2."))) == 2
    assert capsys.readouterr().err == "error: `field` must be 1, but is 2.\n"


def test_an_endless_word_is_cut_and_others_are_not():
    path = "/".join(["folder"] * 40)
    assert str(UserError(f"{path} is {'x' * 5_000}. Mend it.")) == f"{path} is {'x' * 100}... Mend it."
    assert str(pickle.loads(pickle.dumps(UserError("as it is")))) == "as it is"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (OSError(22, "Invalid argument", "a?b"), "[Errno 22] Invalid argument: 'a?b'"),  # a name on Windows
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ConnectionResetError(104, "Connection reset by peer"), "[Errno 104] Connection reset by peer"),
        (OSError("USER/NAME is not a valid model identifier"), "USER/NAME is not a valid model identifier"),
    ],
)
def test_an_error_of_the_machine_is_one_line(error, line, capsys):
    assert run_command(fail(error)) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


BUGS = [
    *(ValueError("shapes"), KeyError("x"), RuntimeError("x"), AssertionError()),
    *(OSError(9, "Bad file descriptor"), ChildProcessError(10, "No child processes"), OSError(22, "Invalid argument")),
    FileNotFoundError(2, "No such file or directory", str(Path(errors.__file__).with_name("absent.json"))),
]


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        run_command(fail(bug))


def test_an_interruption_has_its_own_line_and_status(capsys):
    assert run_command(fail(KeyboardInterrupt()), "interrupted. Repeat the command.") == 130
    assert capsys.readouterr().err == "interrupted. Repeat the command.\n"


def test_an_error_of_a_library_about_settings_is_the_user_s():
    with pytest.raises(SettingsError, match="num_beams"), settings_of_the_user(ValueError):
        raise ValueError("num_beams")
    with pytest.raises(ConversionError), settings_of_the_user(ValueError):
        raise ConversionError("kept")
    with pytest.raises(TypeError), settings_of_the_user(ValueError):
        raise TypeError("a bug")


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_between_processes(kind):
    copied = pickle.loads(pickle.dumps(kind("said")))
    assert type(copied) is kind and str(copied) == "said"
