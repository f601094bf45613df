"""The queue: its file, its order, and how the command runs an entry."""

import ast
import dataclasses
import importlib
import json
import math
import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from benchmarks.learning.entries import QUEUE, data_path, read_queue, run_folder
from benchmarks.learning.runner import Queue

import worldblocks as wb
from benchmarks import ROOT, provenance
from benchmarks.learning import __main__ as command
from benchmarks.learning import data, entries, pages, words

DOCS = ROOT / "docs"
PUBLISHED = DOCS / "results" / "published"


@pytest.fixture(scope="module")
def queue():
    return read_queue(ROOT / QUEUE)


def options(words):
    """`--name value` pairs."""
    return {
        name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }


def test_commands_of_runs_are_known_to_their_recipe(queue):
    for entry in queue:
        if entry.kind != "run":
            continue
        script, preset, *words = entry.words
        assert (ROOT / script).exists(), entry.name
        recipe = importlib.import_module(Path(script).stem)
        given = {}
        for name, value in options(words).items():
            assert name in {field.name for field in dataclasses.fields(recipe.Config)}, entry.name
            default = getattr(recipe.Config(), name)
            given[name] = value if isinstance(default, str) else ast.literal_eval(value)
        config = dataclasses.replace(recipe.PRESETS[preset], **given)
        assert config.steps * config.repeat == entry.steps, f"{entry.name}: budget"
        json.loads(getattr(config, "env_args", "{}"))


def test_commands_of_peers_are_known(queue):
    source = ast.parse((ROOT / command.PEERS).read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    by_name = {entry.name: entry for entry in queue}
    for entry in queue:
        if entry.kind != "peer":
            continue
        *program, settings = entry.words[:3]
        words = entry.words[3:]
        marks = words.index("--marks")
        given = options(words[:marks])
        assert program == ["-m", "benchmarks.learning.peers"]
        assert settings in strings
        assert {f"--{name}" for name in given} <= strings
        assert int(given["steps"]) * int(given.get("repeat", 1)) == entry.steps, entry.name
        judged = [int(word) * int(given.get("repeat", 1)) for word in words[marks + 1 :]]
        budget = by_name[entry.baseline_of].steps
        assert any(budget <= at <= 1.2 * budget for at in judged), f"{entry.name}: no evaluation"


def test_commands_of_several_tasks_are_known(queue, tmp_path):
    """Parsed by the recipes themselves."""
    for entry in [entry for entry in queue if entry.kind in ("tasks", "glam")]:
        script, *words = entry.words
        recipe = importlib.import_module(Path(script).stem)
        presets = {name: (name, preset) for name, preset in recipe.PRESETS.items()}
        config = tyro.extras.overridable_config_cli(presets, args=words)
        assert config.steps * config.repeat == entry.steps, entry.name
    adapt = importlib.import_module("adapt")
    for entry in [entry for entry in queue if entry.kind == "adapt"]:
        words = [word.format(run=tmp_path) for word in entry.words[1:]]
        config = tyro.cli(adapt.Config, args=words)
        assert config.run == tmp_path
        assert config.marks[-1] == entry.steps, entry.name
    instruct = importlib.import_module("instruct")
    for entry in [entry for entry in queue if entry.kind == "instruct"]:
        words = [word.format(run=tmp_path) for word in entry.words[1:]]
        config = tyro.cli(instruct.Config, args=words)
        assert config.run == tmp_path
        assert (ROOT / config.sentences).exists(), entry.name


def test_published_tasks_are_there(queue):
    named = [entry.published.split("/") for entry in queue if entry.published]
    assert named
    for file, task in named:
        curve = wb.evaluate.read_published(PUBLISHED / f"{file}.json", task)
        assert "danijar/dreamerv3" in curve.source
        assert curve.seeds.min() >= 5
    proprio = PUBLISHED / "dmc_proprio.json"
    swingup = wb.evaluate.read_published(proprio, "dmc_cartpole_swingup")
    at = dict(zip(swingup.steps.tolist(), swingup.mean.round().tolist(), strict=True))
    assert [at[20_000], at[50_000], at[100_000]] == [189, 322, 528]


def test_the_tables_are_those_of_the_data(queue):
    """After a run, `python -m benchmarks.learning --redraw` updates them."""
    assert (ROOT / pages.TABLES).read_text(encoding="utf-8") == pages.tables(queue, ROOT)
    names = ("results.md", "multitask.md", "language.md")
    page = "".join((DOCS / name).read_text(encoding="utf-8") for name in names)
    included = re.findall(rf'--8<-- "{pages.TABLES}:(\w+)"', page)
    assert sorted(included) == sorted(pages.texts(queue, ROOT))
    for picture in (DOCS / "results").glob("*.png"):
        assert picture.stat().st_size < 150_000


def test_every_record_is_of_a_seed_of_the_queue(queue):
    known = {data_path(entry, ROOT): entry for entry in queue}
    for path in (DOCS / "results" / "data").iterdir():
        entry, seeds = known[path], [record["seed"] for record in entries.read_data(path)]
        assert seeds == sorted(set(seeds) & set(entry.seeds))
        assert path.stat().st_size < 10_000 * len(seeds)


ENTRY = """
name = "{}"
what = "it"
tier = 1
command = "recipes/stub.py fast"
seeds = [0, 1]
steps = 40
minutes = 1
"""


def written(root, *tables):
    path = root / QUEUE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("[[run]]\n" + table for table in tables))
    return path


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([ENTRY.format("a"), ENTRY.format("a")], r"two entries are named 'a'; give one of them"),
        ([ENTRY.format("a") + "sedes = [3]\n"], r"'a' has the fields \['sedes'\]; known are \["),
        (
            [ENTRY.format("a") + 'baseline_of = "b"\n'],
            r"baseline_of = 'b', which is not the name of an entry above it; those",
        ),
        ([ENTRY.format("a") + 'hardware = "tpu"\n'], r"hardware 'tpu'; a kind is one of run, peer"),
    ],
)
def test_what_is_wrong_in_the_file_is_a_sentence(tmp_path, tables, words):
    with pytest.raises(ValueError, match=words):
        read_queue(written(tmp_path, *tables))


def test_the_next_entry(tmp_path):
    """In file order, without GPU entries if there is no GPU, and a continuation after its base."""
    more = ENTRY.format("more") + 'continues = "first"\n'
    tables = [ENTRY.format("gpu") + 'hardware = "gpu"\n', ENTRY.format("first"), more]
    listed = read_queue(written(tmp_path, *tables))

    def following(gpu=False):
        entry = entries.next_entry(listed, tmp_path, gpu=gpu)
        return entry and entry.name

    def finish(entry, seed):
        data.add_record(data_path(entry, tmp_path), {"seed": seed})

    assert (following(), following(gpu=True)) == ("first", "gpu")
    _, first, last = listed
    finish(first, 1)
    assert following() == "first"
    assert entries.unfinished(first, tmp_path) == [0]
    finish(first, 0)
    assert following() == "more"
    finish(last, 0), finish(last, 1)
    assert following() is None


STUB = """
import json, shutil, sys, time
from pathlib import Path
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
run, seed = Path(given["--logdir"]), int(given["--seed"])
if seed == 7:
    time.sleep(60)
if seed == 1 and "--resume" not in sys.argv:
    run.mkdir()
    (run / "config.json").write_text("{}")
    sys.exit(3)
shutil.copytree("prepared", run, dirs_exist_ok=True)
"""
JUDGE = """
import sys
assert sys.argv[2:7] == ["--episodes", "100", "--json", "--mode", "--video"], sys.argv
print('a video\\n{"mean": 9.0, "std": 1.0, "sampled": {"mean": 8.0, "std": 2.0}, "parameters": 12}')
"""


@pytest.fixture
def stub(tmp_path):
    """A repository with a recipe that takes no time, and its queue."""
    for folder in ("recipes", "prepared"):
        (tmp_path / folder).mkdir()
    (tmp_path / "recipes" / "stub.py").write_text(STUB)
    (tmp_path / "recipes" / "evaluate.py").write_text(JUDGE)
    written(tmp_path, ENTRY.format("stub") + "thresholds = [5]\nmode = true\n")
    prepared = tmp_path / "prepared"
    config = {"steps": 20, "repeat": 2, "train_ratio": 8.0}
    (prepared / "config.json").write_text(json.dumps(config))
    lines = [json.dumps({"step": 2 + n, "score": float(n), "length": 2}) for n in range(15)]
    (prepared / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    wb.run.Checkpoint(prepared).save({"agent": {"w": torch.ones(3)}, "position": {"step": [20]}})
    return Queue(tmp_path)


def test_an_entry_from_its_start_to_its_page(stub):
    (entry,) = stub.entries
    jobs = [(entry, seed) for seed in entry.seeds]
    assert pages.overview(stub.entries, stub.root).endswith("0 of 2")
    assert stub.run(jobs, 1) == 1  # seed 1 fails in its first training
    assert entries.unfinished(entry, stub.root) == [1]
    assert pages.overview(stub.entries, stub.root).endswith("1 of 2, seed 1 failed")
    assert stub.run(jobs[1:], 2) == 0  # and is resumed
    assert pages.overview(stub.entries, stub.root).endswith("2 of 2")
    text = data_path(entry, stub.root).read_text()
    both = json.loads(text)
    assert [record["seed"] for record in both] == [0, 1]
    assert len(text.splitlines()) == sum(len(record) + 2 for record in both) + 2
    result = both[1]
    assert (result["score"]["mean"], result["mode"]["mean"], result["parameters"]) == (8, 9, 12)
    assert (result["steps"], result["repeat"]) == (40, 2)  # 20 actions of 2 environment steps
    # Means of ten: 4.5 at episode 9, 5.5 at episode 10, which ended at action 12.
    assert result["first_hit"] == {"5": 24}
    assert result["curve"]["step"] == list(range(4, 34, 2))
    assert result["curve"]["score"] == list(range(15))
    assert result["command"] == "python recipes/stub.py fast --seed 1"
    assert {"commit", "machine", "versions", "date", "minutes", "changed"} <= result.keys()
    assert wb.run.Checkpoint(run_folder(entry, 1, stub.root)).exists()
    pages.redraw(stub.entries, stub.root)
    page = (stub.root / pages.TABLES).read_text()
    assert "| seed | score | mode | steps to 5 | minutes |" in page
    assert "| min – median – max | 8 | 9 | 24 |" in page
    assert (stub.root / "docs" / "results" / "stub.png").stat().st_size < 150_000


def test_an_evaluation_that_did_not_end_is_no_result(stub, capsys):
    (stub.root / "recipes" / "evaluate.py").write_text(JUDGE + "sys.exit(1)\n")
    assert stub.run([(stub.entries[0], 0)], 1) == 1
    assert "stub seed 0: no evaluation; see " in capsys.readouterr().out
    assert entries.unfinished(stub.entries[0], stub.root) == [0, 1]


def test_an_entry_waits_for_what_it_continues(stub):
    more = dataclasses.replace(stub.entries[0], name="more", continues="stub")
    assert entries.ready(stub.entries[0], stub.entries, stub.root)
    assert not entries.ready(more, stub.entries, stub.root)


def test_a_peer_has_the_thresholds_of_what_it_is_compared_with(stub):
    peer = dataclasses.replace(stub.entries[0], kind="peer", baseline_of="stub", thresholds=())
    assert stub.thresholds(peer) == stub.thresholds(stub.entries[0]) == (5,)


def test_the_run_of_another_entry_is_in_the_command(stub, monkeypatch):
    said = []
    monkeypatch.setattr(stub, "call", lambda words, log: said.extend(words) or 0)
    command = 'recipes/stub.py {run} --env_args \'{"task": "walk"}\''
    entry = dataclasses.replace(stub.entries[0], name="more", base="stub", command=command)
    assert stub.train(entry, 1, stub.begin(entry, 1)) == 0
    there = str(run_folder(stub.entries[0], 1, stub.root))
    assert said[:4] == ["recipes/stub.py", there, "--env_args", '{"task": "walk"}']


def test_a_stopped_queue_starts_nothing_more(stub):
    entry = dataclasses.replace(stub.entries[0], seeds=(7, 0))
    threading.Timer(0.1, stub.stop).start()
    assert stub.run([(entry, 7), (entry, 0)], 1) == 1
    assert pages.begun(entry, stub.root) == ["seed 7 started"]


def test_what_is_not_committed_does_not_start(stub):
    def git(*words):
        subprocess.run(["git", *words], cwd=stub.root, check=True, capture_output=True)

    git("init")
    assert command.uncommitted(stub, stub.entries) == [QUEUE, "recipes/stub.py"]
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-m", "first")
    assert command.uncommitted(stub, stub.entries) == []
    (stub.root / "recipes" / "stub.py").write_text(STUB + "\n")
    assert command.uncommitted(stub, stub.entries) == ["recipes/stub.py"]
    assert len(provenance.provenance(root=stub.root)["commit"]) == 12


def test_an_unknown_entry_is_a_sentence(stub):
    with pytest.raises(SystemExit, match=r"no entries \['sub'\] in the queue, which has stub"):
        command.choose(stub, ["sub"])


def test_ratios_by_hand():
    """Two seeds against 100 steps of ours: one hit at 300, one none within its 500."""

    def seed(hit):
        judged = [{"step": 50, "mean": 1.0}, {"step": 110, "mean": 2.0}]
        result = {"steps": 500, "evaluations": judged, "first_hit": {"10": hit}}
        return pages.Seed(result, wb.evaluate.Episodes("it", np.array([500]), np.array([1.0])))

    assert pages.hits_cells([seed(300)], 10, 100) == ["300", "3"]
    assert pages.hits_cells([seed(300), seed(None)], 10, 100) == ["300 / > 500", "> 4"]
    assert pages.hits_cells([seed(300)], 10, math.inf) == ["300", "–"]
    assert words.spread([300, math.inf], 500) == "300 – > 500 – > 500"
    assert seed(None).score_at(100) == (2.0, 110)
    assert seed(None).score_at(200) is None


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12 346"), (99.04, "99"), (0.98765, "0.988"), (-0.5, "-0.5")]
)
def test_numbers(value, text):
    assert words.number(value) == text
