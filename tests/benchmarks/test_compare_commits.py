"""Two commits in one run: the slower one, and cases that cannot be compared."""

import shutil
import subprocess

import pytest
from benchmarks.__main__ import main
from benchmarks.compare import COMPARED, OLD, Compare, adapter, checkout, resolve, verdict
from benchmarks.subject import subject
from benchmarks.work import Work

from benchmarks import ROOT, compare, figures

ADAPTER = """
import time
from benchmarks.timing import Timed

def busy(seconds):
    def step():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    return step

def update(work, strided=False):
    return Timed(functions={{"{case}": busy({seconds})}})
"""


def judged(base, head, limit=1.15):
    return verdict("update", "worldblocks", "step", base, head, limit)


@pytest.mark.parametrize(
    ("rounds", "slower"),
    [
        ([1.2, 1.2, 1.2, 1.0], True),
        ([1.2, 1.2, 1.1, 1.0], False),  # half of the rounds say otherwise
        ([1.1, 1.1, 1.1, 1.1], False),
        ([0.5], False),
    ],
)
def test_slower_in_the_median_and_in_most_rounds(contestant, rounds, slower):
    base = contestant("worldblocks", [[10.0]] * len(rounds))
    head = contestant("worldblocks", [[10.0 * one] for one in rounds])
    assert judged(base, head).slower == slower


def test_the_verdict_weighs_rounds_alike(contestant):
    """The head takes a tenth in every round; in the quiet one it has more samples."""
    base = contestant("worldblocks", [[10.0], [30.0], [30.0]])
    head = contestant("worldblocks", [[1.0] * 9, [3.0] * 3, [3.0] * 3])
    one = judged(base, head)
    assert one.ratio == (pytest.approx(0.1),) * 3
    assert one.rounds == pytest.approx([0.1] * 3)
    assert (one.base, one.head) == (pytest.approx(0.03), pytest.approx(0.003))


def test_two_threads_are_compared_by_the_clock_on_the_wall(contestant):
    base, head = (contestant("worldblocks", [[ms]], threads=2) for ms in (10.0, 20.0))
    head.turns["step"][0]["wall"] = [0.004]
    assert judged(base, head).ratio[0] == pytest.approx(0.4)


def test_both_layouts_have_an_adapter_for_every_subject(tmp_path):
    assert set(OLD) == set(COMPARED)
    for name in COMPARED:
        assert adapter(ROOT, name) == f"benchmarks.{name}:ours"
    (tmp_path / "benchmarks" / "adapters").mkdir(parents=True)
    (tmp_path / "benchmarks" / "adapters" / "ours.py").touch()
    assert adapter(tmp_path, "rssm") == "benchmarks.adapters.ours:rssm"
    with pytest.raises(ValueError, match=r"has neither benchmarks/replay.py nor benchmarks/adapt"):
        adapter(tmp_path, "replay")


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """Two commits with their own workers: the old layout, then one three times slower."""
    root = tmp_path / "repo"
    (root / "benchmarks" / "adapters").mkdir(parents=True)
    (root / "benchmarks" / "__init__.py").touch()
    for name in ("work", "worker"):
        shutil.copy(ROOT / "benchmarks" / f"{name}.py", root / "benchmarks")
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "benchmarks" / "timing.py").write_text("from benchmarks.worker import Timed\n", "utf-8")
    old = ADAPTER.format(seconds=0.002, case="step")
    (root / "benchmarks" / "adapters" / "ours.py").write_text(old, encoding="utf-8")
    commit(root, "fast")
    (root / "benchmarks" / "adapters" / "ours.py").unlink()
    write(root, seconds=0.006)
    commit(root, "slow")
    monkeypatch.setattr(compare, "ROOT", root)
    return root


def write(root, **known):
    text = ADAPTER.format(**{"case": "step", **known}).replace("def update", "def ours")
    (root / "benchmarks" / "update.py").write_text(text, encoding="utf-8")


def git(root, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def commit(root, message):
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--no-verify", "-m", message)


def test_a_commit_is_checked_out_and_gone_afterwards(repo):
    with checkout("HEAD") as tree:
        assert "0.006" in (tree / "benchmarks" / "update.py").read_text(encoding="utf-8")
    assert not tree.exists()
    listed = subprocess.run(
        ["git", "-C", str(repo), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1


def test_an_unknown_commit_is_a_sentence(repo, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no commit 'v9' in .*; give a hash, a tag or a branch"):
        resolve("v9")
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="no commit 'HEAD' in"):
        resolve("HEAD")


def test_a_checkout_that_fails_is_a_sentence(repo):
    (repo / ".git" / "worktrees").write_text("in the way", encoding="utf-8")
    with (
        pytest.raises(ValueError, match=r"^HEAD could not be checked out of .*: "),
        checkout("HEAD"),
    ):
        pass


@pytest.fixture
def run(repo):
    """`compare` in the repository above."""
    few = ["--only", "update", "--rounds", "2", "--turn", "0.01"]
    return lambda *words: main(["compare", *words, *few])


def test_a_slower_commit_is_exit_code_1(run, tmp_path, capsys):
    """The base has the old layout, the head the new one."""
    out = tmp_path / "figures.json"
    assert run("HEAD~1", "HEAD", "--out", str(out)) == 1
    text = capsys.readouterr().out
    assert "slower than its limit: update, worldblocks: step; update, worldblocks (str" in text
    data = figures.read(out)["compare"]
    assert len(data["origin"]["base"]) == len(data["origin"]["head"]) == 40
    [one, _] = data["cases"]
    assert (one["subject"], one["name"]) == ("update", "worldblocks: step")
    assert one["ratio"][0] == pytest.approx(3, rel=0.3)
    assert len(one["ratio"]) == 3
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_a_case_may_have_its_own_limit(run, capsys):
    assert run("HEAD~1", "HEAD", "--limit", "step=9") == 0
    assert "slower than its limit: nothing" in capsys.readouterr().out


def test_files_as_they_are_are_the_head(run, repo):
    write(repo, seconds=0.0005)
    assert run("HEAD") == 0


def test_a_case_that_the_head_lacks_is_exit_code_2(run, repo, capsys):
    write(repo, seconds=0.001, case="leap")
    assert run("HEAD") == 2
    text = capsys.readouterr().out
    assert "not compared: update, worldblocks: step; update, worldblocks (strided): step" in text
    assert "update, worldblocks: only the head has leap" in text


def test_a_side_that_fails_is_exit_code_2(run, repo, capsys):
    (repo / "benchmarks" / "update.py").write_text("import no_such_module\n", encoding="utf-8")
    assert run("HEAD") == 2
    text = capsys.readouterr().out
    assert "skipped: worldblocks (head): module 'no_such_module' is not installed" in text
    assert "not compared: update, worldblocks: step; update, worldblocks (strided): step" in text
    commit(repo, "broken")
    write(repo, seconds=0.001)
    assert run("HEAD") == 2
    text = capsys.readouterr().out
    assert "not compared: update, worldblocks; update, worldblocks (strided)\n" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "imports"], "--only names imports; only may name update, rssm, returns, rep"),
        (["--tolerance", "0.5"], "--tolerance must be at least 1, got 0.5"),
        (["--size", "huge"], "--size names huge; size may name size1m"),
        (["--limit", "jump=2"], "--limit names jump; limit may name step, observe, observe_back"),
        (["--limit", "imagine"], "--limit takes CASE=RATIO such as imagine=1.08, got 'imagine'"),
        (["--limit", "imagine=fast"], "--limit takes CASE=RATIO such as imagine=1.08, got "),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(words, sentence, capsys):
    assert main(["compare", "HEAD", *words]) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks: {sentence}")


def test_each_case_has_its_limit():
    options = Compare(base="HEAD", limit=("imagine=1.08", "add=2"))
    assert options.limits == {"imagine": 1.08, "add": 2.0}
    assert "imagine" in subject("rssm").cases(Work())
