"""Medians, ratios and ratios in brackets; figures as JSON and as tables."""

import subprocess

import pytest
from benchmarks.options import FIGURES, Options
from benchmarks.subject import NAMES, subject
from benchmarks.tables import aligned, markdown, no_claim, speed, table
from benchmarks.timing import ratio, summarise
from benchmarks.work import Work
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures, provenance


def test_median_and_quartiles():
    """Of rounds: a quiet round with many samples has the weight of a busy one with few."""
    rounds = [[1.0, 1.0, 1.0, 2.0], [3.0], [5.0, 9.0]]
    assert summarise(rounds) == (3.0, 2.0, 5.0, [1.0, 3.0, 7.0])
    assert summarise([[7.0]]) == (7.0, 7.0, 7.0, [7.0])


def test_a_ratio_has_the_range_of_its_rounds():
    """A machine that is three times slower in round 2 changes the times, not the ratio."""
    times = [[1.0], [3.0], [1.2]], [[2.0], [6.0], [2.0]]
    assert ratio(*times) == (0.5, 0.5, 0.6, [0.5, 0.5, 0.6])
    assert ratio([[1.0], [3.0]], [[2.0]]) == (0.5, 0.5, 0.5, [0.5])  # it did not finish round 2


def test_a_tenth_in_every_round_is_a_tenth():
    """A turn has a fixed duration: the faster one has most samples in the quiet round."""
    ours, peer = [[1.0] * 30, [3.0] * 10, [3.0] * 10], [[10.0] * 3, [30.0], [30.0]]
    assert ratio(ours, peer) == (0.1, 0.1, 0.1, [0.1] * 3)
    assert summarise(ours).median == 3.0


TIMES = st.lists(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=5), min_size=1, max_size=9)


@given(ours=TIMES, peer=TIMES)
def test_a_ratio_lies_in_its_range(ours, peer):
    one = ratio(ours, peer)
    assert one.low <= one.value <= one.high
    assert len(one.rounds) == min(len(ours), len(peer))
    middle = summarise(ours)
    assert middle.low <= middle.median <= middle.high


@given(
    ours=st.floats(1e-3, 1.0),
    share=st.floats(0.01, 100.0),
    slow=st.lists(st.tuples(st.floats(1.0, 10.0), st.integers(1, 9)), min_size=1, max_size=9),
)
def test_a_busy_machine_changes_no_ratio(ours, share, slow):
    """For any speed of a round, and any number of samples of the two."""
    mine = [[ours * factor] * count for factor, count in slow]
    theirs = [[ours * factor / share] * (10 - count) for factor, count in slow]
    assert ratio(mine, theirs).value == pytest.approx(share)


@pytest.mark.parametrize(
    ("ours", "peer", "words"),
    [
        (100e9, 91e9, ""),
        (91e9, 100e9, ""),
        (100e9, 89e9, "100 against 89 GFLOP"),
        (4.8e9, 13.5e9, "4.8 against 13.5 GFLOP"),
        (None, 1e9, "FLOPs not counted"),
    ],
)
def test_work_that_differs_by_a_tenth_claims_nothing(ours, peer, words):
    assert no_claim(*({} if one is None else {"flops": one} for one in (ours, peer))) == words


def test_a_ratio_turned_round_is_a_speed():
    assert speed([0.5, 0.25, 0.8]) == "2× (1.2–4×)"


@pytest.fixture
def update(contestant):
    """Two variants of ours, a peer with equal and one with other work."""
    measured = [
        contestant("equal", [[20], [22, 24]], flops=9.5e9, mode="compiled", note="much alike"),
        contestant("worldblocks", [[10, 12], [11, 11]], flops=9e9, parameters=1_234_567),
        contestant("worldblocks (strided)", [[6], [6]], flops=5e9),
        contestant("smaller", [[8], [9]], flops=5.2e9, versions={"smaller": "0.1"}),
    ]
    return figures.of_subject(subject("update"), Work(), measured)


def test_the_figures_of_a_case(update):
    step = update["cases"]["step"]
    assert list(step["sides"]) == ["worldblocks", "worldblocks (strided)", "equal", "smaller"]
    assert (step["title"], step["unit"]) == ("step, size1m, 4 × 32, horizon 15", "ms")
    assert step["clock"] == "cpu"
    assert step["sides"]["worldblocks"] == {
        "figure": 11.0,
        "quartiles": [11.0, 11.0],
        "other": 11.0,
        "flops": 9e9,
    }
    assert step["sides"]["equal"]["figure"] == 21.5
    assert step["ratios"]["worldblocks"]["equal"] == [0.5141, 0.4783, 0.55]
    known = update["contestants"]
    assert known["worldblocks"]["parameters"] == 1_234_567
    assert known["equal"] == {"mode": "compiled", "note": "much alike", "first_call_s": 21.0}


def test_values_are_compared_and_errors_are_not(contestant):
    replay = [
        contestant(name, [], values={"memory_image": mib})
        for name, mib in (("worldblocks", 90), ("copy floor", 100))
    ]
    memory = figures.of_subject(subject("replay"), Work(), replay)["cases"]["memory_image"]
    assert memory["ratios"] == {"worldblocks": {"copy floor": [0.9]}}
    assert "clock" not in memory
    errors = [
        contestant(name, [], values={"error 16x64": 1e-6}) for name in ("worldblocks", "sheeprl")
    ]
    data = figures.of_subject(subject("returns"), Work(), errors)
    assert data["cases"]["error 16x64"]["ratios"] == {"worldblocks": {"sheeprl": []}}
    one = table(data, "error 16x64", 1, False)
    assert one.header == ["", "figure"]
    assert one.rows == [["worldblocks", "1e-06"], ["sheeprl", "1e-06"]]


def test_with_two_threads_the_wall_counts(contestant):
    """Twice the CPU time of one thread, and half of its wall time."""
    sides = []
    for name, wall in (("worldblocks", 0.004), ("r2dreamer", 0.010)):
        one = contestant(name, [[16.0]], flops=9e9, threads=2)
        one.turns["step"][0]["wall"] = [wall]
        sides.append(one)
    data = figures.of_subject(subject("update"), Work(threads=2), sides)
    step = data["cases"]["step"]
    assert (step["clock"], step["sides"]["worldblocks"]["other"]) == ("wall", 16.0)
    assert step["ratios"]["worldblocks"]["r2dreamer"] == [0.4, 0.4, 0.4]
    one = table(data, "step", 2, True)
    assert one.header[2:] == ["GFLOP", "wall ms", "quartiles", "CPU ms", "worldblocks ÷ it"][1:]
    assert "eager, 2 threads" in one.rows[0]


def test_brackets(update):
    one = table(update, "step", 1, True)
    assert one.header[-2:] == ["worldblocks ÷ it", "strided ÷ it"]
    cells = {row[0]: row for row in one.rows}
    assert cells["worldblocks"][-2:] == ["", ""]
    assert cells["worldblocks"][1:4] == ["eager, 1 thread", "1,234,567", "9"]
    assert cells["equal"][-2:] == ["0.514, 0.478 – 0.55", "(0.28: 5 against 9.5 GFLOP)"]
    assert cells["smaller"][-2:] == ["(1.3: 9 against 5.2 GFLOP)", "0.708, 0.667 – 0.75"]
    lines = aligned(one).splitlines()
    assert lines[0] == "step, size1m, 4 × 32, horizon 15"
    assert lines[1].index("mode") == lines[2].index("eager")
    assert markdown(one).splitlines()[1].count("---") == len(one.header)


def test_a_run_replaces_one_of_its_name(update, origin, tmp_path):
    path = tmp_path / "new" / "figures.json"
    figures.write(path, "latest", {"origin": origin})
    figures.write(path, "2 threads", {"origin": origin})
    figures.write(path, "latest", {"origin": origin, "update": update})
    runs = figures.read(path)
    assert runs == {"latest": {"origin": origin, "update": update}, "2 threads": {"origin": origin}}
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 250


def test_no_figures_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no figures at .*; `python -m benchmarks --out "):
        figures.read(tmp_path / "none.json")


def test_the_committed_figures_have_what_a_page_needs(origin):
    runs = figures.read(FIGURES)
    assert set(NAMES) <= set(runs["latest"])
    for name, run in runs.items():
        assert set(origin) <= set(run["origin"]), name
        for one in set(NAMES) & set(run):
            for case in run[one]["cases"].values():
                assert set(case["sides"]) <= set(run[one]["contestants"])
                pairs = [pair for own in case["ratios"].values() for pair in own.values()]
                assert {len(pair) for pair in pairs} <= {0, 1, 3}


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
    assert figures.without_folders(text) == shown


def test_figures_are_not_a_change_of_the_code(tmp_path, monkeypatch):
    """Otherwise a second run at the same commit would count as changed."""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "benchmarks" / "figures.json").write_text("{}\n", encoding="utf-8")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--no-verify", "-m", "one")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    (tmp_path / "benchmarks" / "figures.json").write_text("{1}\n", encoding="utf-8")
    (tmp_path / "benchmarks" / "new.json").write_text("{}\n", encoding="utf-8")
    assert not figures.origin(Options(), [])["changed"]
    (tmp_path / "benchmarks" / "run.py").write_text("a = 2\n", encoding="utf-8")
    assert figures.origin(Options(), [])["changed"]
