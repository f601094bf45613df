"""Medians, ratios and what they may claim; figures as JSON and as a page."""

import json

import pytest
from benchmarks.excerpts import excerpts, inserted
from benchmarks.groups import GROUPS
from benchmarks.jobs import ROOT
from benchmarks.options import LATEST, PAGE
from benchmarks.page import beside, render, write_page
from benchmarks.summary import no_claim, ratio, summarise
from benchmarks.tables import aligned, markdown, tables
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import record

META = {
    "date": "2026-01-02",
    "commit": "abc",
    "changed": True,
    "machine": "2 cores of a processor",
    "load": [0.5, 1.5, 2.5],
    "versions": {"python": "3.11"},
    "threads": 1,
    "environment": {"MALLOC": "1G"},
    "rounds": 2,
    "command": "python -m benchmarks",
    "skipped": {"rlax (returns)": "rlax: module 'rlax' is not installed"},
}


def test_median_quartiles_and_number_of_samples():
    """Of rounds: the many samples of a quiet one count as much as the few of a busy one."""
    rounds = [[1.0, 1.0, 1.0, 2.0], [3.0], [5.0, 9.0]]
    assert summarise(rounds) == (3.0, 2.0, 5.0, 7, [1.0, 3.0, 7.0])
    assert summarise([[7.0]]) == (7.0, 7.0, 7.0, 1, [7.0])


def test_a_ratio_has_the_range_of_its_rounds():
    """A machine that is three times slower in round 2 changes the times, not the ratio."""
    times = [[1.0], [3.0], [1.2]], [[2.0], [6.0], [2.0]]
    assert ratio(*times) == (0.5, 0.5, 0.6, [0.5, 0.5, 0.6])
    assert ratio([[1.0], [3.0]], [[2.0]]) == (0.5, 0.5, 0.5, [0.5])  # it did not finish round 2


def test_a_tenth_in_every_round_is_a_tenth():
    """A turn lasts a fixed time: the faster one has most of its samples in the quiet round."""
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
    """However slow each round is, and however many samples each of the two has in it."""
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
    sides = [{"flops": {} if one is None else {"step": one}} for one in (ours, peer)]
    assert no_claim("step", *sides) == words


@pytest.fixture
def data(contestant):
    """Two variants of ours, a peer of equal and one of other work, and a group without FLOPs."""
    update = [
        contestant("worldblocks", [[10, 12], [11, 11]], ours=True, flops=9e9, parameters=1_234_567),
        contestant("worldblocks (strided)", [[6], [6]], ours=True, flops=5e9),
        contestant("equal", [[20], [22, 24]], flops=9.5e9, mode="compiled", note="much alike"),
        contestant("smaller", [[8], [9]], flops=5.2e9, versions={"smaller": "0.1"}),
    ]
    replay = [
        contestant(name, [[1], [2]], case="add", values={"memory_image": mib}, ours=mib == 90)
        for name, mib in (("worldblocks", 90), ("copy floor", 100))
    ]
    alone = [contestant("worldblocks", [[1]], ours=True, case="16x64")]
    found = {"_meta": META}
    for name, group in (("update", update), ("replay", replay), ("returns", alone)):
        found |= record.entries(GROUPS[name], group)
    return found


def test_the_layout_of_the_figures(data, tmp_path):
    assert list(data) == [
        "_meta",
        "update/step/equal",
        "update/step/smaller",
        "update/step/worldblocks (strided)/equal",
        "update/step/worldblocks (strided)/smaller",
        "replay/add/copy floor",
        "replay/memory_image/copy floor",
        "returns/16x64",
    ]
    equal = data["update/step/equal"]
    assert (equal["ours"], equal["peer"], equal["ratio"]) == (11.0, 21.5, 0.5141)
    assert (equal["unit"], equal["no_claim"], equal["ours_samples"]) == ("ms", "", 4)
    assert (equal["ours_rounds"], equal["peer_rounds"]) == ([11.0, 11.0], [20.0, 23.0])
    assert equal["ours_quartiles"] == [11.0, 11.0]
    assert equal["ratio_range"] == [0.4783, 0.55]
    assert equal["clock"] == "cpu"
    assert equal["ours_facts"]["parameters"] == 1_234_567
    assert {"threads": 1, "mode": "compiled", "flops": 9.5e9}.items() <= equal["peer_facts"].items()
    assert data["update/step/smaller"]["no_claim"] == "9 against 5.2 GFLOP"
    assert data["replay/add/copy floor"]["unit"] == "µs"
    memory = data["replay/memory_image/copy floor"]
    assert (memory["ours"], memory["ratio"], memory["unit"]) == (90, 0.9, "MiB")
    alone = data["returns/16x64"]
    assert (alone["ours"], alone["peer"], alone["ratio"]) == (1000.0, None, None)
    record.write(tmp_path / "new" / "figures.json", data)
    made = {**META, "rounds": [1, 2]}  # whatever was asked for
    expected = json.loads(json.dumps({**data, "_meta": made}))
    assert record.read(tmp_path / "new" / "figures.json") == expected


def test_brackets(data):
    table = tables(data)[0]
    assert table.header[-2:] == ["worldblocks ÷ it", "strided ÷ it"]
    cells = {row[0]: row for row in table.rows}
    assert list(cells) == ["worldblocks", "worldblocks (strided)", "equal", "smaller"]
    assert cells["worldblocks"][-2:] == ["", ""]
    assert cells["worldblocks"][1:4] == ["eager, 1 thread", "1,234,567", "9"]
    assert cells["equal"][-2:] == ["0.514, 0.478 – 0.55", "(0.28: 5 against 9.5 GFLOP)"]
    assert cells["smaller"][-2:] == ["(1.3: 9 against 5.2 GFLOP)", "0.708, 0.667 – 0.75"]
    lines = aligned(table).splitlines()
    assert lines[0] == "update: step, size1m, 4 × 32, horizon 15"
    assert lines[1].index("mode") == lines[2].index("eager")
    assert markdown(table).splitlines()[1].count("---") == len(table.header)


def test_values_that_are_no_times(data):
    memory = next(table for table in tables(data) if "memory" in table.title)
    assert memory.header == ["", "MiB", "worldblocks ÷ it"]
    assert memory.rows == [["worldblocks", "90", ""], ["copy floor", "100", "0.9"]]


def test_the_page(data, tmp_path):
    text = render(data, {})
    assert "This page is generated from `benchmarks/latest.json`" in text
    origin = "commit abc with changes; 2 cores of a processor; 2026-01-02; 2 rounds"
    assert f"{origin}; load 0.5 when it began" in text
    assert "Environment of every worker: `MALLOC=1G`." in text
    assert "Did not take part: rlax (returns)." in text
    assert text.index("## The full gradient step") < text.index("## Return estimators")
    assert "## Import" not in text
    assert "- equal: first call 21 s; much alike" in text
    assert "- smaller: smaller 0.1" in text
    assert "\n| equal | compiled, 1 thread | – | 9.5 | 21.5 | 20.8 – 22.2 | 21.5 | 0.514, " in text
    assert "are of an older form" not in text
    write_page(data, {}, tmp_path / "docs" / "page.md")
    assert (tmp_path / "docs" / "page.md").read_text(encoding="utf-8") == text


def test_the_committed_page_is_that_of_the_committed_figures():
    """After a measurement, `python -m benchmarks --page` makes it so."""
    if not (LATEST.exists() and PAGE.exists()):
        pytest.skip("nothing is committed yet")
    data, more = record.read(LATEST), beside(LATEST.parent)
    assert PAGE.read_text(encoding="utf-8") == render(data, more)
    for path, text in excerpts(data, more).items():
        page = (ROOT / path).read_text(encoding="utf-8")
        assert page == inserted(page, text, path.name), path


def test_no_figures_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no figures at .*; `python -m benchmarks --out "):
        record.read(tmp_path / "none.json")
