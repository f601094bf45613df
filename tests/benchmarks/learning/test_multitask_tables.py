"""Tables of several tasks: intervals, differences, steps to a share of a score."""

import json

import numpy as np
from benchmarks.learning.data import add_record
from benchmarks.learning.entries import Entry, data_path, run_folder
from PIL import Image

from benchmarks.learning import multitask


def entry(name, **options):
    command = "recipes/multitask_dmc.py cpu --tasks walk"
    given = {"what": name, "tier": 1, "seeds": (0, 1), "steps": 100, "minutes": 1, **options}
    given = {"kind": "tasks", "command": command, "group": "several", **given}
    return Entry(name=name, **given)


def finish(one, root, seed, **facts):
    known = {"seed": seed, "parameters": 12_000, "updates": 70, "minutes": 3.0, "steps": one.steps}
    add_record(data_path(one, root), known | facts)


def scores(trained):
    return {"walk": {"trained": {"scores": trained}, "random": {"scores": [0.0, 1.0]}}}


def test_an_interval_holds_its_mean_and_knows_no_unit():
    interval = multitask.interval
    mean, low, high = interval([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    assert mean == 4.0
    assert 1.0 < low < 4.0 < high < 7.0
    assert interval([[2.0, 2.0], [2.0, 2.0]]) == (2.0, 2.0, 2.0)
    scaled = interval([[10.0, 20.0, 30.0], [50.0, 60.0, 70.0]])
    np.testing.assert_allclose(scaled, [40.0, 10 * low, 10 * high])


def test_the_comparison(tmp_path):
    """With a random policy, differences and commands; before that, without any run."""
    group = [entry(name) for name in ("shared", "alone", "told")]
    assert multitask.texts(group, tmp_path)["several"].startswith("Not run yet. In the q")
    for seed in (0, 1):
        finish(group[0], tmp_path, seed, tasks=scores([8.0, 9.0, 10.0]))
        finish(group[1], tmp_path, seed, tasks=scores([1.0, 2.0, 3.0]))
    text = multitask.texts(group, tmp_path)["several"]
    assert "| models | seeds | walk | parameters | updates a model | minutes a seed |" in text
    assert "| shared | 2 of 2 | 9 [" in text
    assert "(9, 9) | 12 000 | 70 | 3 |" in text
    assert "| told | 0 of 2 | – | – | – | – |" in text
    assert "| a random policy: 95th percentile of 2 episodes |  | 0.95 |" in text
    assert "- walk: shared minus alone 7 [" in text
    assert "the interval excludes 0" in text
    assert "`python recipes/multitask_dmc.py cpu --tasks walk --seed N`" in text


def test_reports_of_the_world_stand_below(tmp_path):
    """Lines that pass or fail, by task and seed, without those that only inform."""
    run, one = tmp_path / "run", entry("shared")
    (run / "walk").mkdir(parents=True)
    (run / "scores.json").write_text(json.dumps(scores([1.0])))
    assert multitask.results(run) == {"tasks": scores([1.0])}
    lines = [("error", True, "1 < 2"), ("told", None, "3"), ("value", False, "-0.1 not > 0")]
    told = [dict(zip(("name", "passed", "detail"), line, strict=True)) for line in lines]
    (run / "walk" / "report.json").write_text(json.dumps(told))
    finish(one, tmp_path, 1, **multitask.results(run))
    text = multitask.texts([one], tmp_path)["several"]
    assert "| walk | 1 | error | PASS | 1 < 2 |\n| walk | 1 | value | FAIL | -0.1 not > 0 |" in text
    assert "told" not in text


def test_adaptation(tmp_path):
    """The goal is 0.8 of 10; a fresh world needs 1000 steps, the kept one 100."""
    alone = entry("alone")
    finish(alone, tmp_path, 0, tasks=scores([10.0]))
    command = "recipes/adapt.py {run} --task walk"
    options = {"kind": "adapt", "group": "new", "steps": 1000, "base": "alone"}
    kept = entry("kept", command=command, **options)
    fresh = entry("fresh", command=f"{command} --world fresh", **options)
    group = [alone, kept, fresh]
    assert multitask.texts(group, tmp_path)["new"].startswith("Not run yet.")
    for one, means in ((kept, (0.0, 8.0, 9.0)), (fresh, (0.0, 1.0, 9.0))):
        steps = zip((0, 100, 1000), means, strict=True)
        told = [{"step": step, "mean": mean, "scores": [mean]} for step, mean in steps]
        finish(one, tmp_path, 0, evaluations=told)
    text = multitask.texts(group, tmp_path)["new"]
    assert "| world model | seeds | 0 | 100 | 1 000 | steps to 8 |" in text
    assert "| kept | 1 of 2 | 0 [0, 0] (0) | 8 [8, 8] (8) | 9 [9, 9] (9) | 100 |" in text
    assert "- kept: 0.1\n- fresh: 1" in text


def test_without_a_goal_that_was_reached_there_is_no_ratio(tmp_path):
    command = "recipes/adapt.py {run} --task walk --world fresh"
    one = entry("fresh", kind="adapt", command=command, base="alone")
    finish(one, tmp_path, 0, evaluations=[{"step": 0, "mean": 1.0, "scores": [1.0]}])
    alone = entry("alone")
    other = "recipes/multitask_dmc.py cpu --train_ratio 128 --tasks walk"
    twice = entry("twice", command=other)  # other settings than those of the adapted run
    finish(twice, tmp_path, 0, tasks=scores([0.1]))
    text = multitask.texts([alone, twice, one], tmp_path)["several"]
    assert "No run was trained on the task alone" in text
    finish(alone, tmp_path, 0, tasks=scores([10.0]))
    text = multitask.texts([alone, one], tmp_path)["several"]
    assert "| > 100 |" in text
    assert "Training from scratch did not reach the goal, so there is no ratio." in text


def test_the_picture_of_the_first_seed_goes_to_the_pages(tmp_path):
    one = entry(multitask.SHOWN[0])
    page = tmp_path / "docs" / "results" / f"{one.name}.png"
    page.parent.mkdir(parents=True)
    for seed in (1, 0):
        run = run_folder(one, seed, tmp_path)
        run.mkdir(parents=True)
        Image.new("RGB", (5 + seed, 3)).save(run / "tasks.png")
        multitask.copy_picture(one, seed, tmp_path)
        assert page.exists() == (seed == 0)
    with Image.open(page) as picture:
        assert (picture.size, picture.mode) == ((5, 3), "P")
