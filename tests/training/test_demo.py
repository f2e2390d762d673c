import pytest

from training.demo import main


def test_the_number_of_threads_is_that_of_the_option(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    assert main(["absent"]) == main(["absent", "--num_threads", "3"]) == 2
    assert asked == [3]
    with pytest.raises(SystemExit):
        main(["absent", "--num_threads", "0"])
    assert "--num_threads must be at least 1, but is 0" in capsys.readouterr().err
