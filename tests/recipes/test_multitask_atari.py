"""Several games: the smoke, and what it shares with the recipe of DeepMind Control."""

import pytest
from tiny_runs import python

import worldblocks as wb


def test_smoke(tmp_path):
    """As the documentation says it, in a process of its own."""
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
    assert len(set(sizes.values())) == 3  # each keeps its own buttons
