"""Tables of GLAM: success by reward, steps to a share of the oracle's, unseen sentences."""

import shutil

from benchmarks.learning.data import add_record
from benchmarks.learning.entries import Entry, data_path, ready, run_folder, to_run

from benchmarks.learning import grounding

CURVE = {"step": [100, 190, 250], "success": [0.5, 0.9, 0.6]}


def entry(name, command, **options):
    given = {"what": name, "tier": 1, "seeds": (0, 1), "steps": 300, "minutes": 1, **options}
    return Entry(name=name, command=command, **given)


def finish(one, root, seed, **facts):
    add_record(data_path(one, root), {"seed": seed, "minutes": 3.0, **facts})


def won(success, last, means):
    curve = {**CURVE, "success": means}
    return {"success": success, "success_last_100": last, "curve": curve}


def test_success_by_reward(tmp_path):
    """The oracle's success is 1, so the steps are those to 0.8."""
    options = {"kind": "glam", "group": "glam"}
    oracle = entry("oracle", "recipes/glam.py cpu --reward oracle", **options)
    sparse = entry("sparse", "recipes/glam.py cpu --reward none", **options)
    both = [oracle, sparse]
    assert grounding.texts(both, tmp_path)["glam"].startswith("Not run yet. In the queue: `p")
    assert grounding.texts([], tmp_path) == {}
    finish(oracle, tmp_path, 0, **won(1.0, 1.0, [0.8, 0.9, 1.0]))
    finish(sparse, tmp_path, 0, **won(0.4, 0.5, [0.0, 0.9, 0.6]))
    finish(sparse, tmp_path, 1, **won(0.1, 0.0, [0.0, 0.1, 0.0]))
    text = grounding.texts(both, tmp_path)["glam"]
    header = "| reward | seeds | last 100 episodes | judged | steps to 0.8 | minutes a seed |"
    assert header in text
    assert "| oracle | 1 of 2 | 1 | 1 | 100 | 3 |" in text
    assert "| sparse | 2 of 2 | 0.5, 0 | 0.4, 0.1 | 190, > 300 | 3 |" in text
    assert "`python recipes/glam.py cpu --reward none --seed N`" in text
    grounding.draw(both, tmp_path)
    assert (tmp_path / "docs" / "results" / "glam.png").stat().st_size > 5000


def test_the_posterior_of_the_last_seed_goes_to_the_pages(tmp_path):
    shown = entry(grounding.SHOWN[0], "recipes/glam.py cpu", kind="glam")
    page = tmp_path / "docs" / "results" / f"{shown.name}.png"
    page.parent.mkdir(parents=True)
    for seed in (0, 1):
        run = run_folder(shown, seed, tmp_path)
        run.mkdir(parents=True)
        (run / "belief.png").write_bytes(bytes([seed]))
        grounding.copy_picture(shown, seed, tmp_path)
        assert page.exists() == (seed == 1)
    assert page.read_bytes() == b"\x01"


def test_unseen_sentences(tmp_path):
    one = entry("said", "recipes/instruct.py {run}", kind="instruct", base="worlds")
    said = {"instruction": "go on", "meant": "walk", "best_head": "head of walk"}
    said |= {"chosen": "walk", "policy": 9.0, "oracle": 9.0, "random_95": 4.0}
    said |= {"best_head_score": 7.0, "ok": True}
    wrong = {**said, "instruction": "up", "chosen": "sit", "policy": 3.0, "ok": False}
    assert grounding.texts([one], tmp_path)["said"].startswith("Not run yet.")
    for seed in (0, 1):
        finish(one, tmp_path, seed, sentences=[said, wrong])
    text = grounding.texts([one], tmp_path)["said"]
    assert "| go on | walk | walk | 9, 9 | 4, 4 | 9, 9 | 7, 7 |" in text
    assert "| up | walk | sit | 3, 3 | 4, 4 | 9, 9 | 7, 7 |" in text
    assert "- seed 1: 1 of 2 sentences above the 95th percentile of a random policy; 2 with" in text


def test_a_run_on_a_run_waits_for_it(tmp_path):
    """Its results are not enough: without weights and replay on disk it is run again."""
    worlds = entry("worlds", "recipes/multitask_dmc.py cpu", kind="tasks")
    said = entry("said", "recipes/instruct.py {run}", kind="instruct", base="worlds")
    both = [worlds, said]
    assert not ready(said, both, tmp_path)
    for seed in (0, 1):
        finish(worlds, tmp_path, seed)
    (run_folder(worlds, 1, tmp_path) / "checkpoint").mkdir(parents=True)
    assert to_run(worlds, both, tmp_path) == [0]
    assert not ready(said, both, tmp_path)
    (run_folder(worlds, 0, tmp_path) / "checkpoint").mkdir(parents=True)
    assert ready(said, both, tmp_path)
    for seed in (0, 1):
        finish(said, tmp_path, seed)
    shutil.rmtree(tmp_path / "logs")
    assert to_run(worlds, both, tmp_path) == []
