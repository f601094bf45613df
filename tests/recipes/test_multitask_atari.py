"""Several games: the smoke run, and a second report of a finished run."""

import pytest
from tiny_runs import smoke

import worldblocks as wb


def test_smoke(tmp_path):
    pytest.importorskip("ale_py", reason="needs the extra atari")
    smoke("multitask_atari", tmp_path)
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
    few = ("--tasks", "boxing", "--steps", "24")
    found = []
    for more in ((), ("--resume", "--report_steps", "160")):
        smoke("multitask_atari", tmp_path, *few, *more)
        found.append((tmp_path / "boxing" / "report.txt").read_text(encoding="utf-8"))
    assert found[0] != found[1]
