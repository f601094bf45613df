"""The commands for a GPU, rehearsed on a CPU; without network."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
from benchmarks.gpu import agreement, bundle, columns, command, play, runner, timings
from benchmarks.gpu.cases import CASES, Case

from benchmarks import ROOT

# --- bundle


def wheel(folder, name, files):
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        for path, size in files.items():
            archive.writestr(path, b"x" * size)


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Two made-up wheels, and a checkout of 100 bytes."""

    def fetch(folder):
        files = {"mujoco/__init__.py": 70, "mujoco/experimental/big.js": 900}
        wheel(folder, "mujoco", {**files, "mujoco/_render_filament.so": 90, "mujoco/a_test.py": 9})
        wheel(folder, "other", {"other/experimental/kept.py": 30, "other/tests/data/x.py": 5})
        return sorted(folder.glob("*.whl"))

    (tmp_path / "tracked").write_bytes(b"x" * 100)
    monkeypatch.setattr(bundle, "fetch", fetch)
    monkeypatch.setattr(bundle, "tracked", lambda: [tmp_path / "tracked"])
    monkeypatch.setattr(bundle, "MIB", 1)
    return tmp_path / "bundle"


def test_a_bundle_is_cut_and_what_was_there_goes(fetched, monkeypatch, capsys):
    monkeypatch.setattr(bundle.total, "__defaults__", (200,))
    fetched.mkdir()
    (fetched / "old").touch()
    assert command.main(["bundle", "--out", str(fetched)]) == 0
    names = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if path.is_file()}
    assert names == {"mujoco/__init__.py", "other/experimental/kept.py"}
    said = capsys.readouterr().out
    assert "1069.0     70.0" in said  # of mujoco: unpacked, kept
    assert "bundle 100.0, tracked files without agents 100.0, together 200.0 of 200.0" in said


def test_a_bundle_above_the_limit_is_refused(fetched, monkeypatch, capsys):
    monkeypatch.setattr(bundle.total, "__defaults__", (199,))
    assert command.main(["bundle", "--out", str(fetched)]) == 1
    said = capsys.readouterr()
    assert "together 200.0 of 199.0" in said.out
    assert "have 200.0 MiB together, and 199.0 may travel: cut more of a package" in said.err


def test_the_limit_is_fifty_mebibytes():
    with pytest.raises(ValueError, match=r"have 50\.1 MiB together, and 50\.0 may travel"):
        bundle.total(40 * 2**20, 2**20 * 101 // 10)


def test_versions_are_those_of_the_constraints(tmp_path):
    pinned = bundle.pins()
    assert "mujoco==3.17.0" in pinned
    assert len(pinned) == len(bundle.PACKAGES)
    (tmp_path / "constraints.txt").write_text("mujoco==3\n")
    with pytest.raises(ValueError, match=r"constraints\.txt does not pin absl-py, beartype"):
        bundle.pins(tmp_path / "constraints.txt")


def test_what_pip_says_is_said(monkeypatch, tmp_path):
    def pip(*_, **__):
        return subprocess.CompletedProcess([], 1, "", "first\nno such version\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(ValueError, match="pip could not fetch the wheels: no such version"):
        bundle.fetch(tmp_path)


def test_trained_agents_and_ignored_files_stay_behind(tmp_path):
    files = ["a.py", "docs/results/dmc.json", "docs/results/agents/catch/big"]
    for name in (*files, "ignored"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for words in (["init", "-q"], ["add", *files]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    kept = {str(path.relative_to(tmp_path)) for path in bundle.tracked(tmp_path)}
    assert kept == {"a.py", "docs/results/dmc.json"}
    ignored = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", ".bundle/x"])
    assert ignored.returncode == 0


# --- checks

FAKE = """
import time

def good(device, quick):
    print("printed by some library")
    yield {"device": device, "quick": quick}

def hangs(device, quick):
    yield {"before": 1}
    time.sleep(60)

def raises(device, quick):
    yield {"before": 2}
    raise ValueError("no such kernel")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_cases.py").write_text(FAKE)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return lambda name, limit=20.0: Case(f"fake_cases:{name}", limit)


def test_what_hangs_or_fails_leaves_what_it_had_and_the_rest_goes_on(fake, tmp_path):
    cases = {"a": fake("hangs", 0.5), "b": fake("raises"), "c": fake("good")}
    out = tmp_path / "out"
    assert runner.main(out, device="cpu", quick=False, cases=cases) == 1
    found = json.loads((out / "checks.json").read_text())["cases"]
    assert [found[name]["findings"] for name in "abc"] == [
        {"before": 1},
        {"before": 2},
        {"device": "cpu", "quick": False},
    ]
    assert "Timeout (0:00:00.500000)" in found["a"]["problem"]
    assert "in hangs" in found["a"]["problem"]
    assert found["b"]["problem"].endswith("ValueError: no such kernel")
    assert found["c"]["problem"] == ""
    assert os.listdir(out) == ["checks.json"]


def test_what_cannot_end_itself_is_killed(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "GRACE", -19.0)
    cases = {"a": fake("hangs")}
    assert runner.main(tmp_path / "out", device="cpu", quick=False, cases=cases) == 1
    found = json.loads((tmp_path / "out" / "checks.json").read_text())["cases"]["a"]
    assert found["problem"].startswith("exit code -9")


def test_a_finding_is_written_before_the_next_begins(fake, tmp_path):
    seen = []
    entry = {}
    words = [fake("raises").function, "cpu", "1", "20"]
    for finding in runner.Watched(words, 20.0, entry):
        seen.append((finding, dict(entry)))
    assert seen == [({"before": 2}, {})]
    assert "no such kernel" in entry["problem"]


def test_limits_are_four_minutes_together():
    assert sum(case.limit for case in CASES.values()) <= 240
    assert all(case.function.startswith("benchmarks.gpu.") for case in CASES.values())


def test_checks_that_nobody_knows_are_refused(capsys):
    assert command.main(["checks", "--only", "captured,speed"]) == 1
    assert "--only names speed; only may name captured, parity" in capsys.readouterr().err


def test_the_command_rehearses_checks(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))
    words = ["checks", "--device", "cpu", "--quick", "--only", "captured"]
    assert command.main(words) == 0
    data = json.loads((tmp_path / "checks.json").read_text())
    assert data["_meta"]["device"] == "cpu"
    assert data["cases"]["captured"]["limit_s"] == runner.PATIENCE * CASES["captured"].limit
    found = data["cases"]["captured"]["findings"]
    assert list(found) == ["proprio float32", "images float32", "images bfloat16"]
    for kind in found.values():  # away from CUDA a captured call is a call
        assert {side["losses"]["error"] for side in kind.values()} == {0.0}
        assert {side["parameters"]["error"] for side in kind.values()} == {0.0}


def test_parity_is_rehearsed():
    found = merged(agreement.parity("cpu", True))
    assert [(one["rows"], one["within tolerance"]) for one in found.values()] == [(2, 2), (6, 6)]


def test_drift_is_rehearsed():
    found = merged(agreement.drift("cpu", True))
    for kind in ("proprio", "images"):
        first = found[f"{kind}, first update"]
        assert 0 < first["losses"]["dyn"] < 0.1
        assert 0 < first["gradients"]["median"] <= first["gradients"]["worst"]["error"]
        many = found[f"{kind}, many updates"]
        assert many["update"] == [1, 2, 5, 10]
        assert [len(many["loss/dyn"][dtype]) for dtype in ("float32", "bfloat16")] == [4, 4]


def test_columns_are_rehearsed():
    """256 columns are a whole number of vectors: none of them is unlike the rest."""
    found = merged(columns.columns("cpu", True))
    assert next(iter(found)) == "16 rows, float32"
    assert found["1024 rows, float32"]["256"]["bias"] == 0
    assert list(found["16 rows, float32"]) == ["240", "254", "255", "256", "41"]
    head = found["two-hot head"]
    assert 0 < head["far bins"] < 255
    assert head["of them unlike their mirror"] <= head["far bins"]


@pytest.mark.parametrize("case", [timings.size1m, timings.size200m])
def test_timings_are_rehearsed(case):
    found = merged(case("cpu", True))
    assert found["rows"] == [2, 4]
    for way in ("captured", "eager"):
        assert found[way]["ms"] > 0
        assert len(found[f"{way}, where the time goes"]["longest"]) == timings.TOP


def test_what_cannot_be_captured_is_timed_eagerly_and_fails_at_the_end(monkeypatch):
    def broken(step):
        def call(rows):
            raise RuntimeError("cannot be recorded")

        return call

    monkeypatch.setattr(timings.wb.run, "Captured", broken)
    found = []
    with pytest.raises(RuntimeError, match="cannot be recorded"):
        found.extend(timings.size1m("cpu", True))
    assert [next(iter(finding)) for finding in found] == [
        "device",
        "rows",
        "eager",
        "eager, where the time goes",
    ]


def merged(findings):
    found = {}
    for finding in findings:
        found |= json.loads(json.dumps(finding, allow_nan=False))
    return found


# --- run


def test_the_command_rehearses_a_run(tmp_path):
    words = ["run", "--device", "cpu", "--quick", "--minutes", "3", "--out", str(tmp_path)]
    assert command.main(words) == 0
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["problem"] == ""
    assert data["last"]["metrics"]["step"] == 96
    assert data["last"]["metrics"]["updates"] > 0
    assert data["last"]["timing"]
    assert data["curve"]
    assert data["curve"][0]["environment steps"] % 10_000 == 0
    assert len(data["curve"][0]["published"]) == 2
    assert len(os.listdir(tmp_path)) <= 8
    assert (tmp_path / "run.png").stat().st_size > 0


def child(code):
    return [sys.executable, "-c", code]


ASKED = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("begun", flush=True)
time.sleep(60)
"""


def test_a_run_is_asked_to_end_when_its_time_is_over(tmp_path):
    ended = play.Ended(child(ASKED), tmp_path / "log", 3.0, between=0.5)
    between = list(ended)
    assert len(between) >= 2
    assert between == sorted(between)
    assert 3.0 <= ended.seconds < 15
    assert ended.problem == ""
    assert (tmp_path / "log").read_text() == "begun\nsaved\n"


def test_a_run_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(play, "RESERVE", 1.0)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', "
    ended = play.Ended(child(deaf + "flush=True); time.sleep(60)"), tmp_path / "log", 2.0)
    list(ended)
    assert ended.problem == "did not end within 0 seconds of being asked\ndeaf"


def test_a_run_that_fails_says_its_last_lines(tmp_path):
    ended = play.Ended(child("raise ValueError('no such task')"), tmp_path / "log", 20.0)
    list(ended)
    assert ended.problem.startswith("exit code 1\n")
    assert ended.problem.endswith("ValueError: no such task")


def test_a_run_needs_time(capsys):
    assert command.main(["run", "--minutes", "0.5"]) == 1
    assert "--minutes 0.5 is not more than the 30 seconds" in capsys.readouterr().err


def test_nothing_is_beside_a_run_without_an_episode(tmp_path):
    assert play.report(tmp_path / "none", tmp_path) == {"last": {}, "curve": []}
