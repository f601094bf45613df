"""The record of a seed: points, hits, curves by task."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from benchmarks.learning.entries import Entry, data_path, records

from benchmarks.learning import data


@pytest.fixture
def entry():
    known = {"name": "one", "what": "it", "tier": 1, "command": "x", "seeds": (3, 1), "steps": 8}
    return lambda kind: Entry(**known, minutes=1, kind=kind)


def run(folder, *episodes, **config):
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "episodes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in episodes))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 9, "updates": 12.0}) + "\n")
    return folder


def test_few_episodes_are_kept_as_they_are():
    curve = data.thinned(np.array([3, 5, 5]), np.array([1.0, 2.0, 4.0]))
    assert curve == {"step": [3, 5, 5], "score": [1, 2, 4]}
    assert data.thinned(np.array([]), np.array([])) == {"step": [], "score": []}


def test_many_episodes_are_200_means_that_hold_each_once():
    steps, scores = np.arange(501) * 10, np.random.default_rng(0).normal(size=501)
    curve = data.thinned(steps, scores)
    counts = np.diff([-1, *(np.array(curve["step"]) // 10)])
    assert len(counts) == 200
    assert set(counts) == {2, 3}
    assert curve["step"][-1] == 5000
    np.testing.assert_allclose(counts @ np.array(curve["score"]), scores.sum())


def test_the_first_hit_of_any_success_is_exact():
    """Also at steps that are not among the 200 points."""
    random = np.random.default_rng(1)
    steps = np.cumsum(random.integers(1, 9, size=900))
    success = (random.random(900) < np.linspace(0.1, 0.9, 900)).astype(float)
    curve = data.successes(steps, success)
    assert len(curve["step"]) <= 250
    means = np.convolve(success, np.ones(50) / 50, "valid")
    for threshold in (0.11, 0.33, 0.5, 0.71):
        there = steps[49:][means >= threshold - 1e-9][0]
        kept = np.array(curve["step"])[np.array(curve["success"]) >= threshold - 1e-9][0]
        assert kept == there
    assert data.successes(steps[:7], success[:7]) == {"step": [], "success": []}


def test_a_peer_counts_environment_steps(entry, tmp_path):
    folder = run(tmp_path, *({"step": n, "score": 1.0} for n in range(1, 13)), repeat=2)
    result = {"seed": 3, "steps": 12, "evaluations": [{"step": 6, "mean": 0.123456789}]}
    data.keep(entry("peer"), folder, {**result, "secret": 1}, tmp_path, [1, 2.5])
    (kept,) = records(entry("peer"), tmp_path)
    assert (kept["steps"], kept["repeat"]) == (24, 2)
    assert kept["evaluations"] == [{"step": 12, "mean": 0.123457}]
    assert kept["first_hit"] == {"1": 20, "2.5": None}
    assert kept["curve"]["step"] == list(range(2, 26, 2))
    assert "secret" not in kept


def test_several_tasks_have_a_curve_each(entry, tmp_path):
    lines = [{"step": n, "score": float(n), "task": "walk" if n % 2 else "run"} for n in (1, 2, 5)]
    data.keep(entry("tasks"), run(tmp_path, *lines, repeat=2), {"seed": 3}, tmp_path)
    (kept,) = records(entry("tasks"), tmp_path)
    assert kept["updates"] == 12
    assert kept["curve"]["walk"] == {"step": [2, 10], "score": [1, 5]}
    assert kept["curve"]["run"] == {"step": [4], "score": [2]}


def test_glam_keeps_its_outcomes(entry, tmp_path):
    lines = [{"step": n, "score": 0.0, "success": float(n > 100)} for n in range(1, 151)]
    data.keep(entry("glam"), run(tmp_path, *lines), {"seed": 3, "success": 0.9}, tmp_path)
    (kept,) = records(entry("glam"), tmp_path)
    assert (kept["success"], kept["success_last_100"]) == (0.9, 0.5)
    assert kept["curve"]["success"][-1] == 1


def test_a_record_replaces_that_of_its_seed_and_seeds_are_sorted(entry, tmp_path):
    one = entry("run")
    for record in ({"seed": 3, "score": 1.0}, {"seed": 1}, {"seed": 3, "score": 2.0}, {"seed": 2}):
        data.add_record(data_path(one, tmp_path), record)
    text = data_path(one, tmp_path).read_text()
    assert (
        text == '[\n{\n  "seed": 1\n},\n{\n  "seed": 2\n},\n{\n  "seed": 3,\n  "score": 2.0\n}\n]\n'
    )
    assert records(one, tmp_path) == [{"seed": 3, "score": 2.0}, {"seed": 1}]  # of the entry
    assert [path.name for path in data_path(one, tmp_path).parent.iterdir()] == ["one.json"]


def test_seeds_that_end_at_once_all_have_a_record(tmp_path):
    """The lock belongs to an open file, so threads exclude each other as processes do."""
    path = tmp_path / "one.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: data.add_record(path, {"seed": seed}), range(60)))
    assert [record["seed"] for record in json.loads(path.read_text())] == list(range(60))
