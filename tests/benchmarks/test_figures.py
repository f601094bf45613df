"""Medians, ratios and what they may claim; figures as JSON and as a page."""

import json

import pytest
from benchmarks.groups import GROUPS
from benchmarks.options import LATEST, PAGE
from benchmarks.page import render, write_page
from benchmarks.summary import no_claim, ratio, summarise
from benchmarks.tables import aligned, markdown, tables

from benchmarks import record

META = {
    "date": "2026-01-02",
    "commit": "abc",
    "changed": True,
    "machine": "2 cores of a processor",
    "versions": {"python": "3.11"},
    "threads": 1,
    "environment": {"MALLOC": "1G"},
    "rounds": 2,
    "command": "python -m benchmarks",
    "skipped": {"rlax (returns)": "rlax: module 'rlax' is not installed"},
}


def test_median_quartiles_and_number_of_samples():
    assert summarise([[5.0, 1.0], [3.0], [2.0, 4.0]]) == (3.0, 2.0, 4.0, 5)
    assert summarise([[7.0]]) == (7.0, 7.0, 7.0, 1)


def test_a_ratio_has_the_range_of_its_rounds():
    """A machine that is three times slower in round 2 changes the times, not the ratio."""
    assert ratio([[1.0], [3.0], [1.2]], [[2.0], [6.0], [2.0]]) == (0.6, 0.5, 0.6)
    assert ratio([[1.0], [3.0]], [[2.0]]) == (1.0, 0.5, 0.5)  # the peer did not finish round 2


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
        contestant("equal", [[20], [22, 24]], flops=9.5e9, mode="jit", note="much alike"),
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
    assert (equal["ours"], equal["peer"], equal["ratio"]) == (11.0, 22.0, 0.5)
    assert (equal["unit"], equal["no_claim"], equal["ours_samples"]) == ("ms", "", 4)
    assert equal["ours_quartiles"] == [10.75, 11.25]
    assert equal["ratio_range"] == [0.4783, 0.55]
    assert equal["ours_facts"]["parameters"] == 1_234_567
    assert {"threads": 1, "mode": "jit", "flops": 9.5e9}.items() <= equal["peer_facts"].items()
    assert data["update/step/smaller"]["no_claim"] == "9 against 5.2 GFLOP"
    assert data["replay/add/copy floor"]["unit"] == "µs"
    memory = data["replay/memory_image/copy floor"]
    assert (memory["ours"], memory["ratio"], memory["unit"]) == (90, 0.9, "MiB")
    alone = data["returns/16x64"]
    assert (alone["ours"], alone["peer"], alone["ratio"]) == (1000.0, None, None)
    record.write(tmp_path / "new" / "figures.json", data)
    assert record.read(tmp_path / "new" / "figures.json") == json.loads(json.dumps(data))


def test_brackets(data):
    table = tables(data)[0]
    assert table.header[-2:] == ["worldblocks ÷ it", "strided ÷ it"]
    cells = {row[0]: row for row in table.rows}
    assert list(cells) == ["worldblocks", "worldblocks (strided)", "equal", "smaller"]
    assert cells["worldblocks"][-2:] == ["", ""]
    assert cells["worldblocks"][1:4] == ["eager, 1 thread", "1,234,567", "9"]
    assert cells["equal"][-2:] == ["0.5", "(0.273: 5 against 9.5 GFLOP)"]
    assert cells["smaller"][-2:] == ["(1.29: 9 against 5.2 GFLOP)", "0.706"]
    lines = aligned(table).splitlines()
    assert lines[0] == "update: step, size1m, 4 × 32, horizon 15"
    assert lines[1].index("mode") == lines[2].index("eager")
    assert markdown(table).splitlines()[1].count("---") == len(table.header)


def test_values_that_are_no_times(data):
    memory = next(table for table in tables(data) if "memory" in table.title)
    assert memory.header == ["", "MiB", "worldblocks ÷ it"]
    assert memory.rows == [["worldblocks", "90", ""], ["copy floor", "100", "0.9"]]


def test_the_page(data, tmp_path):
    text = render(data)
    assert "This page is generated from `benchmarks/latest.json`" in text
    assert "commit abc with changes; 2 cores of a processor; 2026-01-02; 2 rounds" in text
    assert "Environment of every worker: `MALLOC=1G`." in text
    assert "Did not take part: rlax (returns)." in text
    assert text.index("## The full gradient step") < text.index("## Return estimators")
    assert "## Import" not in text
    assert "- equal: much alike" in text
    assert "- smaller: smaller 0.1" in text
    assert "\n| equal | jit, 1 thread | – | 9.5 | 22 | 21 – 23 | 22 | 0.5 |" in text
    write_page(data, tmp_path / "docs" / "page.md")
    assert (tmp_path / "docs" / "page.md").read_text(encoding="utf-8") == text


def test_the_committed_page_is_that_of_the_committed_figures():
    """After a measurement, `python -m benchmarks --page` makes it so."""
    if not (LATEST.exists() and PAGE.exists()):
        pytest.skip("nothing is committed yet")
    assert PAGE.read_text(encoding="utf-8") == render(record.read(LATEST))


def test_no_figures_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no figures at .*; `python -m benchmarks --out "):
        record.read(tmp_path / "none.json")
