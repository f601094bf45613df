"""Tables of GLAM: success by reward, steps to a share of the oracle's, unseen sentences."""

import json
import shutil
from pathlib import Path


def entry(modules, name, command, **options):
    given = {"what": name, "tier": 1, "seeds": (0, 1), "steps": 300, "minutes": 1, **options}
    return modules["entries"].Entry(name=name, command=command, **given)


def finish(modules, one, results, seed, outcomes=(), **facts):
    folder = modules["entries"].seed_folder(one, seed, results)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"seed": seed, "minutes": 3.0, **facts}))
    lines = [json.dumps({"step": s + 1, "success": won}) for s, won in enumerate(outcomes)]
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")


def test_success_by_reward(modules, tmp_path):
    """The oracle is judged at 1; 0.8 of it takes 40 successes in 50 episodes."""
    options = {"kind": "glam", "group": "glam"}
    oracle = entry(modules, "oracle", "recipes/glam.py cpu --reward oracle", **options)
    sparse = entry(modules, "sparse", "recipes/glam.py cpu --reward none", **options)
    texts = modules["grounding"].texts
    assert texts([oracle, sparse], tmp_path)["glam"].startswith("Not run yet. In the queue: `p")
    assert texts([], tmp_path) == {}
    results = tmp_path / "results"
    finish(modules, oracle, results, 0, [0.0] * 60 + [1.0] * 140, success=1.0)
    finish(modules, sparse, results, 0, [0.0] * 150 + [1.0] * 50, success=0.4)
    finish(modules, sparse, results, 1, [0.0] * 200, success=0.1)
    text = texts([oracle, sparse], results)["glam"]
    header = "| reward | seeds | last 100 episodes | judged | steps to 0.8 | minutes a seed |"
    assert header in text
    assert "| oracle | 1 of 2 | 1 | 1 | 100 | 3 |" in text
    assert "| sparse | 2 of 2 | 0.5, 0 | 0.4, 0.1 | 190, > 300 | 3 |" in text
    assert "`python recipes/glam.py cpu --reward none --seed N`" in text
    (tmp_path / "docs" / "results").mkdir(parents=True)
    modules["grounding"].draw([oracle, sparse], tmp_path)
    assert (tmp_path / "docs" / "results" / "glam.png").stat().st_size > 5000


def test_unseen_sentences(modules, tmp_path):
    one = entry(modules, "said", "recipes/instruct.py {run}", kind="instruct", beside="worlds")
    said = {"instruction": "go on", "meant": "walk", "best_head": "head of walk"}
    said |= {"chosen": "walk", "policy": 9.0, "oracle": 9.0, "random_95": 4.0}
    said |= {"best_head_score": 7.0, "ok": True}
    wrong = {**said, "instruction": "up", "chosen": "sit", "policy": 3.0, "ok": False}
    texts = modules["grounding"].texts
    assert texts([one], tmp_path)["said"].startswith("Not run yet.")
    for seed in (0, 1):
        finish(modules, one, tmp_path, seed, sentences=[said, wrong])
    text = texts([one], tmp_path)["said"]
    assert "| go on | walk | walk | 9, 9 | 4, 4 | 9, 9 | 7, 7 |" in text
    assert "| up | walk | sit | 3, 3 | 4, 4 | 9, 9 | 7, 7 |" in text
    assert "- seed 1: 1 of 2 sentences above the 95th percentile of a random policy; 2 with" in text


def test_a_run_on_a_run_waits_for_it(modules, tmp_path):
    """Its result alone is not enough: weights and replay must be on disk, else it is made again."""
    results, logs = tmp_path / "results", tmp_path / "logs" / "results"
    worlds = entry(modules, "worlds", "recipes/multitask_dmc.py cpu", kind="tasks")
    said = entry(modules, "said", "recipes/instruct.py {run}", kind="instruct", beside="worlds")
    ready, to_run = modules["entries"].ready, modules["entries"].to_run
    both = [worlds, said]
    assert not ready(said, both, results)
    for seed in (0, 1):
        finish(modules, worlds, results, seed)
    (logs / worlds.place / "seed-1" / "checkpoint").mkdir(parents=True)
    assert to_run(worlds, both, results) == [0]
    assert not ready(said, both, results)
    (logs / worlds.place / "seed-0" / "checkpoint").mkdir(parents=True)
    assert ready(said, both, results)
    for seed in (0, 1):
        finish(modules, said, results, seed)
    shutil.rmtree(logs)
    assert to_run(worlds, both, results) == []
    assert said.place == Path("language", "said")
