"""The queue: its file, its order, and what one command does with an entry."""

import ast
import dataclasses
import importlib
import json
import math
import subprocess
import threading
from pathlib import Path

import pytest
import torch
import tyro

import worldblocks as wb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def queue(modules):
    return modules["entries"].read_queue(ROOT / "results" / "queue.toml")


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
    source = ast.parse((ROOT / "results" / "peers.py").read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    by_name = {entry.name: entry for entry in queue}
    for entry in queue:
        if entry.kind != "peer":
            continue
        script, settings, *words = entry.words
        marks = words.index("--marks")
        given = options(words[:marks])
        assert script == "results/peers.py"
        assert settings in strings
        assert {f"--{name}" for name in given} <= strings
        assert int(given["steps"]) * int(given.get("repeat", 1)) == entry.steps, entry.name
        judged = [int(word) * int(given.get("repeat", 1)) for word in words[marks + 1 :]]
        budget = by_name[entry.beside].steps
        assert any(budget <= at <= 1.2 * budget for at in judged), f"{entry.name}: no evaluation"


def test_commands_of_several_tasks_are_known(queue, tmp_path):
    """By the command lines of the recipes themselves."""
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
        curve = wb.run.read_published(ROOT / "results" / "published" / f"{file}.json", task)
        assert "danijar/dreamerv3" in curve.source
        assert curve.seeds.min() >= 5
    proprio = ROOT / "results" / "published" / "dmc_proprio.json"
    swingup = wb.run.read_published(proprio, "dmc_cartpole_swingup")
    at = dict(zip(swingup.steps.tolist(), swingup.mean.round().tolist(), strict=True))
    assert [at[20_000], at[50_000], at[100_000]] == [189, 322, 528]


def test_the_tables_are_those_of_the_results(modules, queue):
    """After a run, `python results/next.py --redraw` makes them so."""
    tables = ROOT / "results" / "tables"
    written = {path.stem: path.read_text(encoding="utf-8") for path in tables.glob("*.md")}
    assert written == modules["pages"].texts(queue, ROOT / "results")
    pages = [ROOT / "docs" / name for name in ("results.md", "multitask.md", "language.md")]
    page = "".join(path.read_text(encoding="utf-8") for path in pages)
    assert [name for name in written if f"results/tables/{name}.md" not in page] == []
    for picture in (ROOT / "docs" / "results").glob("*.png"):
        assert picture.stat().st_size < 150_000


ENTRY = """
name = "{}"
what = "it"
tier = 1
command = "recipes/stub.py fast"
seeds = [0, 1]
steps = 40
minutes = 1
"""


def written(tmp_path, *tables):
    path = tmp_path / "queue.toml"
    path.write_text("".join("[[run]]\n" + table for table in tables))
    return path


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([ENTRY.format("a"), ENTRY.format("a")], r"two entries are named 'a'; give one of them"),
        ([ENTRY.format("a") + "sedes = [3]\n"], r"'a' has the fields \['sedes'\]; known are \["),
        (
            [ENTRY.format("a") + 'beside = "b"\n'],
            r"beside = 'b', which is no entry above it; those",
        ),
        ([ENTRY.format("a") + 'hardware = "tpu"\n'], r"hardware 'tpu'; a kind is one of run, peer"),
    ],
)
def test_what_is_wrong_in_the_file_is_a_sentence(modules, tmp_path, tables, words):
    with pytest.raises(ValueError, match=words):
        modules["entries"].read_queue(written(tmp_path, *tables))


def test_the_next_entry(modules, tmp_path):
    """File order; nothing for a GPU where there is none; a continuation after what it continues."""
    entries = modules["entries"]
    more = ENTRY.format("more") + 'continues = "first"\n'
    tables = [ENTRY.format("gpu") + 'hardware = "gpu"\n', ENTRY.format("first"), more]
    listed = entries.read_queue(written(tmp_path, *tables))

    def following(gpu=False):
        entry = entries.next_entry(listed, tmp_path, gpu=gpu)
        return entry and entry.name

    def finish(name, seed):
        (tmp_path / name / f"seed-{seed}").mkdir(parents=True)
        (tmp_path / name / f"seed-{seed}" / "result.json").write_text("{}")

    assert (following(), following(gpu=True)) == ("first", "gpu")
    finish("first", 1)
    assert following() == "first"
    assert entries.unfinished(listed[1], tmp_path) == [0]
    finish("first", 0)
    assert following() == "more"
    finish("more", 0), finish("more", 1)
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
def stub(modules, tmp_path):
    """A repository with a recipe that takes no time, and its queue."""
    for folder in ("recipes", "results", "prepared"):
        (tmp_path / folder).mkdir()
    (tmp_path / "recipes" / "stub.py").write_text(STUB)
    (tmp_path / "recipes" / "evaluate.py").write_text(JUDGE)
    written(tmp_path / "results", ENTRY.format("stub") + "thresholds = [5]\nmode = true\n")
    prepared = tmp_path / "prepared"
    (prepared / "config.json").write_text(json.dumps({"steps": 20, "repeat": 2, "logdir": "x"}))
    lines = [json.dumps({"step": 2 + n, "score": float(n), "length": 2}) for n in range(15)]
    (prepared / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    wb.run.Checkpoint(prepared).save({"agent": {"w": torch.ones(3)}, "position": {"step": [20]}})
    return modules["next"].Queue(tmp_path)


def events(queue):
    return [(e["event"], e["seed"]) for e in wb.run.read_jsonl(queue.results / "results.jsonl")]


def test_an_entry_from_its_start_to_its_page(modules, stub):
    (entry,) = stub.entries
    jobs = [(entry, seed) for seed in entry.seeds]
    assert stub.run(jobs, 1) == 1  # seed 1 fails in its first training
    assert events(stub) == [("started", 0), ("finished", 0), ("started", 1), ("failed", 1)]
    assert modules["entries"].unfinished(entry, stub.results) == [1]
    assert "1 of 2, seed 1 failed" in modules["pages"].overview(stub.entries, stub.results)
    assert stub.run(jobs[1:], 2) == 0  # and is resumed
    assert events(stub)[4:] == [("finished", 1)]
    kept = stub.results / "stub" / "seed-1"
    result = json.loads((kept / "result.json").read_text())
    assert (result["score"]["mean"], result["mode"]["mean"], result["parameters"]) == (8, 9, 12)
    assert result["steps"] == 40  # 20 actions of 2 environment steps
    # Means of ten: 4.5 at episode 9, 5.5 at episode 10, which ended at action 12.
    assert result["first_hit"] == {"5": 24}
    assert result["command"] == "python recipes/stub.py fast --seed 1"
    assert {"commit", "machine", "versions", "date", "minutes", "changed"} <= result.keys()
    assert wb.run.Checkpoint(kept).weights("agent")["w"].tolist() == [1, 1, 1]
    modules["pages"].redraw(stub.entries, stub.root)
    page = (stub.results / "tables" / "stub.md").read_text()
    assert "| seed | score | likeliest actions | steps to 5 | minutes |" in page
    assert "| min – median – max | 8 | 9 | 24 |" in page
    assert (stub.root / "docs" / "results" / "stub.png").stat().st_size < 150_000


def test_an_evaluation_that_did_not_end_is_no_result(stub, capsys):
    (stub.root / "recipes" / "evaluate.py").write_text(JUDGE + "sys.exit(1)\n")
    assert stub.run([(stub.entries[0], 0)], 1) == 1
    assert "stub seed 0: no evaluation; see " in capsys.readouterr().out
    assert not (stub.results / "stub" / "seed-0" / "result.json").exists()


def test_an_entry_waits_for_what_it_continues(modules, stub):
    more = dataclasses.replace(stub.entries[0], name="more", continues="stub")
    assert modules["entries"].ready(stub.entries[0], stub.entries, stub.results)
    assert not modules["entries"].ready(more, stub.entries, stub.results)


def test_a_stopped_queue_starts_nothing_more(stub):
    entry = dataclasses.replace(stub.entries[0], seeds=(7, 0))
    threading.Timer(0.1, stub.stop).start()
    assert stub.run([(entry, 7), (entry, 0)], 1) == 1
    assert events(stub) == [("started", 7)]


def test_what_is_not_committed_does_not_start(modules, stub):
    def git(*words):
        subprocess.run(["git", *words], cwd=stub.root, check=True, capture_output=True)

    git("init")
    assert modules["next"].uncommitted(stub, stub.entries) == [
        "recipes/stub.py",
        "results/queue.toml",
    ]
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-m", "first")
    assert modules["next"].uncommitted(stub, stub.entries) == []
    (stub.root / "recipes" / "stub.py").write_text(STUB + "\n")
    assert modules["next"].uncommitted(stub, stub.entries) == ["recipes/stub.py"]
    assert len(modules["provenance"].provenance(stub.root)["commit"]) == 12


def test_an_unknown_entry_is_a_sentence(modules, stub):
    with pytest.raises(SystemExit, match=r"no entries \['sub'\] in the queue, which has stub"):
        modules["next"].choose(stub, ["sub"])


def test_ratios_by_hand(modules, tmp_path):
    """Two seeds against 100 steps of ours: one there at 300, one not at its end, 500."""
    pages = modules["pages"]

    def seed(hit, end):
        scores = [0.0] * 10 + ([100.0] * 10 if hit else [])
        steps = list(range(1, 11)) + ([hit] * 10 if hit else [])
        result = {
            "steps": end,
            "evaluations": [{"step": 50, "mean": 1.0}, {"step": 110, "mean": 2.0}],
        }
        return pages.Kept(tmp_path, result, 1, steps, scores)

    assert pages.hits_cells([seed(300, 500)], 10, 100) == ["300", "3"]
    assert pages.hits_cells([seed(300, 500), seed(None, 500)], 10, 100) == ["300 / > 500", "> 4"]
    assert pages.hits_cells([seed(300, 500)], 10, math.inf) == ["300", "–"]
    assert modules["words"].spread([300, math.inf], 500) == "300 – > 500 – > 500"
    assert seed(None, 500).score_at(100) == (2.0, 110)
    assert seed(None, 500).score_at(200) is None


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12 346"), (99.04, "99"), (0.98765, "0.988"), (-0.5, "-0.5")]
)
def test_numbers(modules, value, text):
    assert modules["words"].number(value) == text
