"""The command line, and one real measurement: small, of worldblocks alone."""

import dataclasses
import statistics
import subprocess

import pytest
from benchmarks.command import COMMANDS, main
from benchmarks.groups import GROUPS, chosen
from benchmarks.options import Options
from benchmarks.work import SIZES, Work

from benchmarks import excerpts, measure, provenance, record


def test_return_estimators_alone(tmp_path, capsys):
    words = ["--only", "returns", "--peers", "none", "--rounds", "2", "--turn", "0.01"]
    out = tmp_path / "figures.json"
    assert main([*words, "--env", "A_SETTING=1", "--out", str(out)]) == 0
    data = record.read(out)
    assert data["_meta"]["environment"] == {"A_SETTING": "1"}
    assert data["_meta"]["command"].startswith("python -m benchmarks --only returns")
    names = ("returns/64x1024", "returns/16x64/worldblocks (checked)")
    plain, checked = (data[name] for name in names)
    assert 0 < plain["ours"] < 1e6
    assert plain["ours_facts"]["environment"] == {"JAXTYPING_DISABLE": "1"}
    assert (plain["ours_facts"]["mode"], checked["ours_facts"]["mode"]) == (
        "eager",
        "eager, shapes checked",
    )
    assert data["returns/error 64x1024"]["ours"] < 1e-4
    assert data["_meta"]["rounds"] == [2]
    assert statistics.median(plain["ours_rounds"]) == pytest.approx(plain["ours"], rel=1e-3)
    assert "returns: λ-return, 16 rows × 64\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "update,speed"], "--only names speed; groups are update, rssm, returns, rep"),
        (["--peers", "torchrl,tianshou"], "--peers names tianshou; peers are torchrl, sheeprl, cp"),
        (["--size", "huge"], "--size huge is unknown; sizes are size1m, size12m, size25m"),
        (["--env", "MALLOC"], "--env takes KEY=VALUE, got 'MALLOC'"),
        (["--r2dreamer", "/nowhere"], "--r2dreamer is /nowhere, where there is no folder; give a"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--image-steps", "64"], "--image-steps must be at least 1040, got 64"),
        (["--page", "--out", "none.json"], "there are no figures at none.json; `python -m bench"),
        (["profile"], "unknown command 'profile'; commands are scaling, floor, fit, compare, and"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks: {sentence}")


def test_an_unknown_size_of_work():
    with pytest.raises(ValueError, match=r"unknown size 'huge'; known are size1m, size12m"):
        _ = Work(size="huge").sizes


def test_a_command_is_named_by_its_first_word(monkeypatch):
    monkeypatch.setitem(COMMANDS, "count", "builtins:len")
    assert main(["count", "a", "b", "c"]) == 3  # the words after it are what it is given


def test_the_page_from_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "PAGE", tmp_path / "page.md")
    out = tmp_path / "figures.json"
    meta = {**measure.origin(Options(), []), "changed": False}
    record.write(out, {"_meta": meta})
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    for name in (excerpts.README, excerpts.PERFORMANCE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = f"Before.\n{excerpts.BEGIN}\nold\n{excerpts.END}\nAfter.\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
    record.write(tmp_path / "update-x.json", {"_meta": {**meta, "changed": True}})
    assert main(["--page", "--out", str(out)]) == 2
    assert "benchmarks: update-x.json was measured at " in capsys.readouterr().err
    (tmp_path / "update-x.json").unlink()
    assert main(["--page", "--out", str(out)]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == f"Before.\n{excerpts.BEGIN}\n\n{excerpts.END}\nAfter.\n"
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks\n")
    assert meta["machine"] in text
    assert str(tmp_path / "page.md") in capsys.readouterr().out


def test_who_takes_part(tmp_path):
    """Peers of the index always, checkouts where their path is given."""
    options = Options(python="peers/python", r2dreamer=str(tmp_path), r2dreamer_compile=True)
    names = {name: [job.name for job in group.jobs(options)] for name, group in GROUPS.items()}
    own = ["worldblocks", "worldblocks (strided)"]
    agents = ["torchrl", "sheeprl", "r2dreamer", "r2dreamer (compiled)"]
    assert names["update"] == [*own, *agents]
    assert {"flashbax", "cpprb", "stable-baselines3", "copy floor"} <= set(names["replay"])
    assert "rlax" in names["returns"]
    few = dataclasses.replace(options, peers="r2dreamer")
    update = GROUPS["update"].jobs(few)
    assert [job.name for job in update if not job.ours] == ["r2dreamer", "r2dreamer (compiled)"]
    assert update[-2].arguments["repo"] == str(tmp_path)
    torchrl = GROUPS["update"].jobs(options)[2]
    assert (torchrl.python, torchrl.requirement) == ("peers/python", "torchrl>=0.14")


def test_every_case_has_a_title_and_the_work_is_in_it():
    work = Work(size="size12m", batch=2, length=16)
    for group in GROUPS.values():
        assert set(group.units) <= set(group.cases(work)), group.name
    assert GROUPS["update"].cases(work)["step"] == "step, size12m, 2 × 16, horizon 15"
    assert [group.name for group in chosen("returns, update")] == ["returns", "update"]
    assert SIZES["size1m"]["deter"] == 512


def test_the_machine_is_named(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nmodel name\t: A Fast One\n", encoding="utf-8")
    assert provenance.machine(info).endswith("cores of A Fast One")
    assert "cores of" in provenance.machine(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--jax /a/b.c/dreamerv3 --turn 0.5", "--jax dreamerv3 --turn 0.5"),
        ("not installed for /opt/x-y/bin/python; pip", "not installed for python; pip"),
        ("--out benchmarks/b.json, 16 / 64, and/or", "--out benchmarks/b.json, 16 / 64, and/or"),
    ],
)
def test_folders_of_a_machine_are_not_published(text, shown):
    assert measure.without_folders(text) == shown


def test_figures_are_no_change_of_the_code(tmp_path, monkeypatch):
    """Else a second file that is measured at a commit would be one with changes."""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "benchmarks" / "latest.json").write_text("{}\n", encoding="utf-8")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--no-verify", "-m", "one")
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    (tmp_path / "benchmarks" / "latest.json").write_text("{1}\n", encoding="utf-8")
    (tmp_path / "benchmarks" / "new.json").write_text("{}\n", encoding="utf-8")
    assert not measure.origin(Options(), [])["changed"]
    (tmp_path / "benchmarks" / "run.py").write_text("a = 2\n", encoding="utf-8")
    assert measure.origin(Options(), [])["changed"]


def test_a_cold_start_is_a_case_that_runs():
    """The code of it, in this process: a fresh one would import torch again."""
    work = Work(batch=1, length=2, horizon=1)
    job = GROUPS["import"].jobs(Options(batch=1, length=2, horizon=1))[0]
    code = job.arguments["statements"]["update"]
    assert GROUPS["import"].cases(work)["update"].startswith("import, build, first update (size1m")
    assert "work = Work(size='size1m', threads=1, batch=1, length=2, horizon=1)" in code
    found = {}
    exec(code.replace("torch_tools.prepare(work.threads); ", ""), found)
    assert found["work"] == work
