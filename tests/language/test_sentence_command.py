"""`python -m worldblocks.language sentence`."""

from pathlib import Path

import pytest

from worldblocks.language import WordOverlap, explain
from worldblocks.language.__main__ import main

# The case set asks these instructions.
CACHE = Path(__file__).parents[1] / "benchmarks" / "learning" / "selector_cache"


def test_a_sentence_is_shown_before_any_training(capsys):
    """From the cache: an instruction of the case set."""
    pytest.importorskip("dm_control", reason="needs the dmc extra")
    arguments = ["sentence", "jump up", "--env", "walker_walk", "--rows", "30"]
    assert main([*arguments, "--cache", str(CACHE), "--offline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["instruction: jump up", "menu of walker_walk: 12 phrases"]
    assert any('"expr": "above(rising, 1.5, 1.5)"' in line for line in lines)
    assert [line.split(",")[0] for line in lines[-2:]] == ["random actions", "doing nothing"]
    assert "mean" in lines[-1]
    assert "at {'rising':" in lines[-1]


@pytest.mark.parametrize(
    ("text", "env", "reason"),
    [
        ("a question that nobody asked", "walker_walk", "has no reply of"),
        ("jump up", "nowhere", "unknown MiniGrid level 'nowhere'"),
    ],
)
def test_errors_are_sentences(text, env, reason, capsys):
    pytest.importorskip("dm_control", reason="needs the dmc extra")
    pytest.importorskip("minigrid", reason="needs the minigrid extra")
    arguments = ["sentence", text, "--env", env, "--cache", str(CACHE), "--offline"]
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err


def test_offline_needs_a_cache(capsys):
    assert main(["sentence", "jump up", "--env", "walker_walk", "--offline"]) == 2
    assert "offline replays a cache, and got none; give --cache" in capsys.readouterr().err


def test_numbers_of_a_sample_are_of_the_whole_episode():
    """A scripted selector on MiniGrid: doing nothing achieves nothing."""
    pytest.importorskip("minigrid", reason="needs the minigrid extra")
    lines = explain("go to the red ball", "BabyAI-GoToLocalS5N2-v0", WordOverlap(), rows=40)
    assert any("rise(done_at_" in line for line in lines)
    assert lines[-1].startswith("doing nothing, 40 rows: mean 0.000")
