import pytest

from vaebench.core import progress as module
from vaebench.core.progress import progress


def test_off_a_terminal_lines_carry_rate_time_left_and_values(monkeypatch, capsys):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("train", total=4, unit="steps") as bar:
        bar.start_at(2)
        bar.update(1, loss=0.25)
        bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train: 3/4 steps")
    assert "steps/s" in lines[0]
    assert "left" in lines[0]
    assert "loss 0.25" in lines[0]
    assert "done in" in lines[-1]


def test_a_failed_task_is_not_reported_as_done(capsys):
    with pytest.raises(RuntimeError), progress("train", total=4):
        raise RuntimeError
    assert "done" not in capsys.readouterr().err
