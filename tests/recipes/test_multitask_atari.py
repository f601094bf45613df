"""Several games: the smoke run, and a second report of a finished run."""

import pytest
from tiny_runs import python

import worldblocks as wb


def test_smoke(tmp_path):
    """As documented, in its own process."""
    pytest.importorskip("ale_py", reason="needs the extra atari")
    done = python("recipes/multitask_atari.py", "smoke", "--logdir", tmp_path)
    assert done.returncode == 0, done.stderr
    games = ("boxing", "gopher", "ms_pacman")
    for game in games:
        assert "open-loop image error at 15 steps" in (tmp_path / game / "report.txt").read_text()
    weights = wb.run.Checkpoint(tmp_path).weights("agent")
    sizes = {
        game: weights[f"heads.parts.{game}.actor.actor.outs.0.0.weight"].shape[0] for game in games
    }
    assert len(set(sizes.values())) == 3  # each has its own actions


@pytest.mark.slow
def test_a_finished_run_can_be_reported_on_more_rows(tmp_path):
    pytest.importorskip("ale_py", reason="needs the extra atari")
    few = ("smoke", "--tasks", "boxing", "--steps", "24", "--logdir", tmp_path)
    found = []
    for more in ((), ("--resume", "--report_steps", "160")):
        done = python("recipes/multitask_atari.py", *few, *more)
        assert done.returncode == 0, done.stderr
        found.append((tmp_path / "boxing" / "report.txt").read_text(encoding="utf-8"))
    assert found[0] != found[1]
