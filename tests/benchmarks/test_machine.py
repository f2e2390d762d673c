"""The form of a report."""

import re

from benchmarks.machine import show_table


def test_a_report_has_its_head_and_one_table(tmp_path, capsys):
    rows = [{"system": "ours", "seconds": "1.5"}, {"system": "theirs", "seconds": "3.0", "times": "2"}]
    for _ in range(2):  # the second replaces the first
        show_table("training, tiny; two cores; median of 3 rounds", rows, tmp_path / "report.md")
    assert re.fullmatch(
        r"# Training, tiny\n\n- Date: \d{4}-\d\d-\d\d\n- Commit: \w[\w-]*\n- Machine: two cores; median of 3 rounds\n"
        r"- Command: `python -m .+`\n\n"
        r"\| system \| seconds \| times \|\n\| --- \| --- \| --- \|\n"
        r"\| ours \| 1.5 \|  \|\n\| theirs \| 3.0 \| 2 \|\n",
        (tmp_path / "report.md").read_text(encoding="utf-8"),
    )
    assert "ours" in capsys.readouterr().out
