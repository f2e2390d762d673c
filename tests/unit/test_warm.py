"""Programs of tests in processes of their own end as they would by themselves."""

import os
import signal
import sys

import pytest

from tests.warm import CAN_FORK, WarmPrograms


@pytest.fixture(scope="module")
def programs():
    programs = WarmPrograms(["json"])
    yield programs
    programs.end()


@pytest.mark.parametrize(
    ("code", "status", "output", "error"),
    [
        ("print('seen')", 0, "seen", ""),
        ("import sys; print('seen'); sys.exit(3)", 3, "seen", ""),
        ("import sys; sys.exit('a reason')", 1, "", "a reason"),
        ("raise KeyError('a name')", 1, "", "KeyError: 'a name'"),
        ("import atexit; atexit.register(print, 'at the end')", 0, "at the end", ""),
        ("import os; print(os.environ['GIVEN'], os.path.basename(os.getcwd()))", 0, "value here", ""),
    ],
)
def test_a_program_ends_with_its_status_and_what_it_printed(programs, tmp_path, code, status, output, error):
    (tmp_path / "here").mkdir()
    result = programs.start(
        ["-c", code], tmp_path, cwd=tmp_path / "here", env={**os.environ, "GIVEN": "value"}
    ).complete()
    assert (result.returncode, result.stdout.strip()) == (status, output)
    assert error in result.stderr


def test_a_module_runs_as_a_program(programs, tmp_path):
    (tmp_path / "module.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    result = programs.start(["-m", "module", "word"], tmp_path, cwd=tmp_path).complete()
    assert result.stdout.strip() == "__main__ ['word']", result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_program_that_runs_can_be_killed(programs, tmp_path):
    program = programs.start(["-c", "import time; time.sleep(1000)"], tmp_path)
    assert program.poll() is None
    program.kill()
    assert program.status == -signal.SIGKILL
    with pytest.raises(TimeoutError, match="did not end in 0 seconds"):
        programs.start(["-c", "import time; time.sleep(1000)"], tmp_path).complete(0)


@pytest.mark.skipif(not CAN_FORK, reason="every program imports by itself")
def test_modules_are_imported_before(programs, tmp_path):
    code = "import sys; print('json' in sys.modules)"
    assert programs.start(["-c", code], tmp_path).complete().stdout.strip() == "True"
