import json
import sys

import pytest

from benchmarks import adaptation_speed
from tfrec_meta.data import synthetic


@pytest.mark.slow
def test_a_short_run_ends_with_every_figure(tmp_path, monkeypatch, capsys):
    # Of so few users nothing is meta-learned; what is timed is the same.
    folder = synthetic(40, 60, 1200).write(tmp_path / "written")
    monkeypatch.setattr(adaptation_speed, "BATCHES", (1, 4))
    monkeypatch.setattr(adaptation_speed, "TASKS", 4)
    monkeypatch.setattr(sys, "argv", ["adaptation_speed", "--quick", "--data", str(folder)])
    adaptation_speed.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["adapt_ms_per_user"] == result["adapt_ms_per_user_4"] > 0
    assert result["tasks"] == 4
    ratio = result["looped_step_ms"] / result["batched_step_ms"]
    assert result["training_speedup"] == ratio
