"""What is made of figures beside their tables: who is ahead, parts of other pages, wall time."""

from dataclasses import replace

import pytest
from benchmarks.excerpts import BEGIN, END, PERFORMANCE, README, excerpts, inserted
from benchmarks.findings import left_of_adding, others_ahead
from benchmarks.groups import GROUPS
from benchmarks.page import beside, origin, render
from benchmarks.tables import tables
from benchmarks.work import Work

from benchmarks import record


@pytest.fixture
def data(contestant, meta):
    """The update, of equal and of other work; a replay and its copy floor; a cold start."""
    update = [
        contestant("worldblocks", [[10], [30]], ours=True, flops=9e9),
        contestant("r2dreamer", [[20], [40]], flops=9e9),
        contestant("official JAX", [[5], [10]], flops=9e9),
        contestant("sheeprl", [[5], [5]], flops=5e9),
    ]
    replay = [
        contestant("worldblocks", [[0.006], [0.009]], case="add", ours=True),
        contestant("copy floor", [[0.005], [0.007]], case="add"),
    ]
    start = contestant("worldblocks", [[7000], [6000]], case="update", ours=True)
    found = {"_meta": {**meta, "rounds": [2]}}
    for name, group in (("update", update), ("replay", replay), ("import", [start])):
        found |= record.entries(GROUPS[name], group)
    return found


def test_others_that_are_ahead_for_the_same_work(data):
    """Not sheeprl, which does less; not r2dreamer, which is behind."""
    lines = others_ahead(data)
    assert lines == [
        "- step, size1m, 4 × 32, horizon 15: official JAX: 2.5, 2 – 3",
        "- add, 8 environments at a time, images, into a full store: copy floor: 1.24, 1.2 – 1.29",
    ]
    text = render(data, {})
    assert text.index("## Where others are faster or smaller") < text.index(lines[0])
    assert text.index(lines[1]) < text.index("## The full gradient step")


def test_nobody_ahead_is_no_heading(data):
    few = {key: data[key] for key in ("_meta", "update/step/r2dreamer")}
    assert "Where others" not in render(few, {})


def test_what_adding_takes_beside_the_copy(data):
    sentence = (
        "Adding an image row: the copy of the bytes alone takes 6 µs a step; 1.5 µs (1 – 2 by "
        "round) are left to worldblocks."
    )
    assert left_of_adding(data, "replay") == [sentence]
    assert sentence in render(data, {})
    assert left_of_adding(data, "update") == []


def test_parts_of_other_pages(data):
    found = excerpts(data, {})
    update = (
        "An update on a CPU (size1m, 4 × 32, horizon 15, 1 thread, same architecture) takes 0.62 "
        "(0.5 to 0.75 by round) of the time of r2dreamer's eager update and 2.5 (2 to 3 by round) "
        "of the time of the official JAX code's."
    )
    assert " ".join(found[README].split()) == update
    rest = " ".join(found[PERFORMANCE].split())
    assert rest.startswith(update)
    assert "end of the first update: 6.5 s of CPU time, 6.5 s on the wall." in rest
    assert "ours ÷ theirs: official JAX (step, size1m, 4 × 32, horizon 15: 2.5), copy" in rest
    assert "| sheeprl | (4) |" in rest
    assert max(map(len, found[README].splitlines())) <= 120


def test_a_part_goes_between_two_comments():
    page = f"a\n{BEGIN}\nold\n{END}\nb\n"
    assert inserted(page, "new", "x.md") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(ValueError, match=r"x.md has no place for the figures; write <!-- from the"):
        inserted("a\n", "new", "x.md")


@pytest.fixture
def threads(contestant, meta):
    """Two threads: twice the CPU time of one, and half of the time on the wall."""
    sides = []
    for name, wall in (("worldblocks", 0.004), ("r2dreamer", 0.010)):
        one = contestant(name, [[16.0]], ours=name == "worldblocks", flops=9e9)
        one.job = replace(one.job, work=Work(threads=2))
        one.turns["step"][0]["wall"] = [wall]
        sides.append(one)
    return {"_meta": {**meta, "threads": 2}, **record.entries(GROUPS["update"], sides)}


def test_with_two_threads_the_wall_counts(threads):
    entry = threads["update/step/r2dreamer"]
    assert (entry["clock"], entry["ours"], entry["peer"], entry["ratio"]) == ("wall", 4, 10, 0.4)
    assert (entry["ours_cpu"], entry["ratio_cpu"]) == (16.0, 1.0)
    table = tables(threads)[0]
    assert table.header[2:5] == ["wall ms", "quartiles", "CPU ms"]
    assert "eager, 2 threads" in table.rows[0]


def test_files_beside_the_latest_are_on_the_page(data, threads, tmp_path):
    record.write(tmp_path / "update-threads2.json", threads)
    record.write(tmp_path / "other.json", data)
    more = beside(tmp_path)
    assert list(more) == ["update-threads2.json"]
    text = render(data, more)
    assert "## The full gradient step: size1m, 4 × 32, horizon 15, 2 threads" in text
    assert "From `benchmarks/update-threads2.json`." in text
    assert (
        "| size1m, 4 × 32, horizon 15, 2 threads, wall time |" in excerpts(data, more)[PERFORMANCE]
    )
    ahead = {**threads, "update/step/r2dreamer": {**threads["update/step/r2dreamer"], "ratio": 2.0}}
    assert "- step, size1m, 4 × 32, horizon 15, 2 threads: r2dreamer: 2" in render(
        data, {"update-threads2.json": ahead}
    )


def test_a_comparison_beside_the_latest_is_on_the_page(data, meta):
    entry = {"group": "rssm", "name": "worldblocks: observe", "unit": "ms", "base": 2.0}
    entry |= {"head": 1.0, "ratio": 0.5, "ratio_range": [0.4, 0.6], "slower": False}
    known = {**meta, "base": "b" * 40, "head": "", "rounds": [12]}
    text = render(data, {"compare.json": {"_meta": known, "rssm/worldblocks: observe": entry}})
    assert "Base bbbbbbbbbbbb, head abc; CPU time. From `benchmarks/compare.json`." in text
    assert "\n| rssm | worldblocks: observe | ms | 2 | 1 | 0.5 | 0.4 – 0.6 |\n" in text


@pytest.mark.parametrize(
    ("rounds", "words"),
    [(8, "; 8 rounds; "), ([2], "; 2 rounds; "), ([3, 8], "; 3 to 8 rounds; "), ([], "02; python")],
)
def test_rounds_are_those_that_were_made(meta, rounds, words):
    assert words in origin({"_meta": {**meta, "rounds": rounds}})


def test_older_figures_are_shown_and_said_to_be_older(data):
    """They have no rounds: what can be made of medians is made of them."""
    old = {"_meta": data["_meta"]}
    for name, entry in data.items():
        if name != "_meta":
            old[name] = {key: value for key, value in entry.items() if "rounds" not in key}
            old[name].pop("clock")
    text = render(old, {})
    assert "These figures are of an older form" in text
    assert "takes 6 µs a step; 1.5 µs are left" in text
