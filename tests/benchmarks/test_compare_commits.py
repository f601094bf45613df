"""Two commits in one run: which is slower, and what cannot be compared."""

import json
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from benchmarks.command import main
from benchmarks.commands import compare
from benchmarks.commands.checkouts import checkout, resolve
from benchmarks.commands.compare import Verdict
from benchmarks.page import compared
from benchmarks.work import Work

ADAPTER = """
import time
from benchmarks.timing import Timed

def step():
    end = time.process_time() + {seconds}
    while time.process_time() < end:
        pass

def measured(work):
    return Timed(functions={{"step": step}})
"""


@pytest.mark.parametrize(
    ("ratio", "rounds", "slower"),
    [
        (1.2, [1.2, 1.2, 1.2, 1.0], True),
        (1.2, [1.2, 1.2, 1.1, 1.0], False),  # half of the rounds say otherwise
        (1.1, [1.2, 1.2, 1.2, 1.2], False),
        (0.5, [0.5], False),
    ],
)
def test_slower_in_the_median_and_in_most_rounds(ratio, rounds, slower):
    verdict = Verdict("update", "step", 1.0, ratio, ratio, rounds, [1.0], [ratio])
    assert verdict.slower(1.15) == slower


def test_the_verdict_weighs_rounds_alike(contestant):
    """The head is a tenth in every round; in the quiet one it had time for more samples."""
    base = contestant("base", [[10.0], [30.0], [30.0]])
    head = contestant("head", [[1.0] * 9, [3.0] * 3, [3.0] * 3], ours=True)
    [one] = compare.judge("update", "worldblocks", base, head)
    assert (one.ratio, one.rounds) == (pytest.approx(0.1), pytest.approx([0.1] * 3))
    assert (one.base, one.head) == (pytest.approx(0.03), pytest.approx(0.003))
    entry = compare.figures_of(one, 1.15)
    assert entry == {
        "group": "update",
        "name": "worldblocks: step",
        "unit": "ms",
        "base": 30.0,
        "base_rounds": [10.0, 30.0, 30.0],
        "head": 3.0,
        "head_rounds": [1.0, 3.0, 3.0],
        "ratio": 0.1,
        "ratio_range": [0.1, 0.1],
        "slower": False,
    }


def test_two_threads_are_compared_by_the_clock_on_the_wall(contestant):
    base, head = contestant("base", [[10.0]]), contestant("head", [[20.0]], ours=True)
    head.job = replace(head.job, work=Work(threads=2))
    head.turns["step"][0]["wall"] = [0.004]
    [one] = compare.judge("update", "worldblocks", base, head)
    assert one.ratio == pytest.approx(0.4)


@pytest.fixture
def repo(tmp_path):
    """Two commits: the adapter of the second takes three times as long."""
    root = tmp_path / "repo"
    (root / "src").mkdir(parents=True)

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    for message, seconds in (("fast", 0.002), ("slow", 0.006)):
        text = ADAPTER.format(seconds=seconds)
        (root / "src" / "fake_adapters.py").write_text(text, encoding="utf-8")
        git("add", ".")
        git("commit", "--quiet", "--no-verify", "-m", message)
    return root


def test_a_commit_is_checked_out_and_gone_afterwards(repo):
    with checkout("HEAD~1", repo) as tree:
        assert "0.002" in (tree / "src" / "fake_adapters.py").read_text(encoding="utf-8")
    assert not tree.exists()
    listed = subprocess.run(
        ["git", "-C", str(repo), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1


def test_an_unknown_commit_is_a_sentence(repo, tmp_path):
    with pytest.raises(ValueError, match=r"no commit 'v9' in .*; give a hash, a tag or a branch"):
        resolve("v9", repo)
    with pytest.raises(ValueError, match="no commit 'HEAD' in"):
        resolve("HEAD", tmp_path)


def test_a_checkout_that_fails_is_a_sentence(repo):
    (repo / ".git" / "worktrees").write_text("in the way", encoding="utf-8")
    with (
        pytest.raises(ValueError, match=r"^HEAD could not be checked out of .*: "),
        checkout("HEAD", repo),
    ):
        pass


@pytest.fixture
def run(repo, fake, monkeypatch):
    """`compare` with the repository above and one group of a fake job."""
    job = replace(fake("measured"), name="worldblocks", ours=True)
    group = SimpleNamespace(jobs=lambda options: [job, replace(job, name="peer", ours=False)])
    monkeypatch.setattr(compare, "GROUPS", dict.fromkeys(compare.COMPARED, group))
    monkeypatch.setattr(compare, "checkout", lambda name: checkout(name, repo))
    monkeypatch.setattr(compare, "resolve", lambda name: resolve(name, repo))
    monkeypatch.setattr(compare, "ROOT", repo)
    few = ["--only", "update", "--rounds", "2", "--turn", "0.01"]
    return lambda *words: main(["compare", *words, *few])


def test_a_slower_commit_is_exit_code_1(run, tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert run("HEAD~1", "HEAD", "--out", str(out)) == 1
    text = capsys.readouterr().out
    assert "slower by more than 1.15: update, worldblocks: step" in text
    data = json.loads(out.read_text(encoding="utf-8"))
    assert len(data["_meta"]["base"]) == 40
    entry = data["update/worldblocks: step"]
    assert entry["slower"]
    assert entry["ratio"] == pytest.approx(3, rel=0.3)
    assert len(entry["head_rounds"]) == 2
    assert (data["_meta"]["rounds"], data["_meta"]["tolerance"]) == ([2], 1.15)
    page = "\n".join(compared(data))
    assert f"Base {data['_meta']['base'][:12]}, head {data['_meta']['head'][:12]}; CPU" in page
    assert "| update | worldblocks: step | ms | " in page
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_files_as_they_are_are_the_head(run, repo, capsys):
    text = ADAPTER.format(seconds=0.0005)
    (repo / "src" / "fake_adapters.py").write_text(text, encoding="utf-8")
    assert run("HEAD") == 0
    assert "nothing is slower by more than 1.15" in capsys.readouterr().out


def test_a_base_without_what_is_measured_is_a_sentence(run, repo, capsys):
    old = "from benchmarks.timing import no_such_name\n"
    (repo / "src" / "fake_adapters.py").write_text(old, encoding="utf-8")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(repo), *identity, "commit", "-aqm", "old", "--no-verify"]
    subprocess.run(command, check=True, capture_output=True)
    assert run("HEAD", "HEAD~1") == 2
    said = capsys.readouterr()
    assert (
        "update: worldblocks is not compared: the base lacks what the adapter of today" in said.out
    )
    assert "nothing could be compared; a base that is not so old" in said.err
    assert run("HEAD~1", "HEAD") == 2
    assert "update of the head cannot be measured: worldblocks (head): " in capsys.readouterr().err
