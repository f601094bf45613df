"""The benchmark page, and parts of other pages, match the figures."""

import pytest
from benchmarks.options import FIGURES
from benchmarks.page import (
    BEGIN,
    END,
    PAGE,
    PERFORMANCE,
    README,
    excerpts,
    inserted,
    render,
    write_pages,
)
from benchmarks.subject import subject
from benchmarks.work import Work

from benchmarks import ROOT, figures


@pytest.fixture
def runs(contestant, origin):
    """An update with equal and with other work, a replay and its copy floor, a cold start."""
    update = [
        contestant("worldblocks", [[10], [30]], flops=9e9),
        contestant("worldblocks (strided)", [[5], [5]], flops=5e9),
        contestant("r2dreamer", [[20], [40]], flops=9e9, note="much alike"),
        contestant("official JAX", [[5], [10]], flops=9e9, versions={"jax": "0.1"}),
        contestant("sheeprl", [[5], [5]], flops=5e9),
    ]
    replay = []
    for name, rounds in (("worldblocks", [[0.6], [0.9]]), ("copy floor", [[0.5], [0.7]])):
        one = contestant(name, rounds, case="add")
        one.turns["sample"] = one.turns["add"]
        replay.append(one)
    start = contestant("worldblocks", [[7000], [6000]], case="update")
    run = {"origin": {**origin, "skipped": {"rlax (returns)": "not installed"}}}
    for name, measured in (("update", update), ("replay", replay), ("imports", [start])):
        run[name] = figures.of_subject(subject(name), Work(), measured)
    return {"latest": run}


@pytest.fixture
def threads(contestant, origin):
    """Another run."""
    sides = [
        contestant("worldblocks", [[9]], flops=9e9, threads=2),
        contestant("r2dreamer", [[4]], flops=9e9, threads=2),
    ]
    update = figures.of_subject(subject("update"), Work(threads=2), sides)
    return {"origin": {**origin, "threads": 2, "environment": {"A": "1"}}, "update": update}


def test_the_page(runs):
    text = render(runs)
    made = "`python -m benchmarks`; commit abc; 2 cores of a processor; 2026-01-02; 2 rounds; load"
    assert f"{made} 0.5 when it began; python 3.11.\n" in text
    assert "Did not take part: rlax (returns)." in text
    assert text.index("## The full gradient step") < text.index("## Replay")
    assert "## Return estimators" not in text
    assert "**Step, size1m, 4 × 32, horizon 15**" in text
    assert "\n| r2dreamer | eager, 1 thread | 30 | 25 – 35 | 30 | 0.625, 0.5 – 0.75 |" in text
    assert "\n- official JAX: jax 0.1\n" in text


def test_others_that_are_ahead_for_the_same_work(runs):
    """Without sheeprl, which does less work, and r2dreamer, which is slower."""
    text = render(runs)
    lines = [line for line in text.splitlines() if line.startswith("- ") and " – " in line]
    assert lines == [
        "- step, size1m, 4 × 32, horizon 15: official JAX: 2.5, 2 – 3",
        "- add, 8 environments at a time, images, into a full store: copy floor: 1.24, 1.2 – 1.29",
        "- sample 16 × 64 as tensors: copy floor: 1.24, 1.2 – 1.29",
    ]
    assert text.index("## Where others are faster or smaller") < text.index(lines[0])
    runs["latest"] = {key: runs["latest"][key] for key in ("origin", "imports")}
    assert "Where others" not in render(runs)


def test_parts_of_other_pages(runs):
    found = excerpts(runs)
    update = (
        "An update on a CPU (size1m, 4 × 32, horizon 15, 1 thread, same architecture) runs at 1.6× "
        "(1.3–2×) the speed of r2dreamer (eager) and 0.4× (0.33–0.5×) the speed of the official "
        "JAX code."
    )
    assert " ".join(found[README].split()) == update
    rest = " ".join(found[PERFORMANCE].split())
    assert rest.startswith(update)
    assert (
        "takes 750 µs a step; copying its bytes alone takes 600 µs. Sampling runs at 0.8×" in rest
    )
    assert "end of the first update: 6.5 s of CPU time, 6.5 s of wall time." in rest
    assert "ours ÷ theirs: official JAX (step, size1m, 4 × 32, horizon 15: 2.5), copy" in rest
    assert "| sheeprl | (4) |" in rest
    assert "| sheeprl, strided | 1 |" in rest
    assert max(map(len, found[README].splitlines())) <= 120


def test_the_rssm_in_a_sentence(contestant, origin):
    sides = []
    for name, seconds in (("worldblocks", 1), ("official JAX", 2)):
        one = contestant(name, [[seconds]], case="observe", flops=1e9)
        one.turns |= dict.fromkeys(("observe_backward", "imagine"), one.turns["observe"])
        sides.append(one)
    data = figures.of_subject(subject("rssm"), Work(), sides)
    assert subject("rssm").summary(data["cases"], origin) == (
        "The scan of `RSSM.observe` runs at 2× (2–2×) the speed of JAX's, with its backward pass "
        "at 2× (2–2×), and imagination at 2× (2–2×)."
    )


def test_further_runs_are_on_the_page(runs, threads):
    both = {**runs, "2 threads": threads}
    text = render(both)
    assert "## The full gradient step: 2 threads\n\n`python -m benchmarks`; " in text
    assert "environment of every worker `A=1`." in text
    assert "- step, size1m, 4 × 32, horizon 15, 2 threads: r2dreamer: 2.25, 2.25 – 2.25\n" in text
    table = excerpts(both)[PERFORMANCE]
    assert "| size1m, 4 × 32, horizon 15, 2 threads, wall time |" in table
    assert "| official JAX | 2.5 | – |" in table


def test_a_comparison_is_on_the_page(runs, origin):
    entry = {"subject": "rssm", "name": "worldblocks: observe", "base": 2.0, "head": 1.0}
    known = {**origin, "base": "b" * 40, "head": ""}
    cases = [{**entry, "ratio": [0.5, 0.4, 0.6]}]
    text = render({**runs, "compare": {"origin": known, "cases": cases}})
    assert "Base bbbbbbbbbbbb, head abc; CPU time." in text
    assert "\n| rssm | worldblocks: observe | 2 | 1 | 0.5, 0.4 – 0.6 |\n" in text


def test_a_part_goes_between_two_comments():
    page = f"a\n{BEGIN}\nold\n{END}\nb\n"
    assert inserted(page, "new", "x.md") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(ValueError, match=r"x.md has no place for the figures; write <!-- from the"):
        inserted("a\n", "new", "x.md")


def test_pages_are_of_a_commit_unless_one_says_otherwise(runs, threads, tmp_path):
    for path in (README, PERFORMANCE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n", encoding="utf-8")
    threads["origin"]["changed"] = True
    both = {**runs, "2 threads": threads}
    with pytest.raises(ValueError, match=r"^2 threads was measured at abc with changes, so nobody"):
        write_pages(both, allow_dirty=False, root=tmp_path)
    assert not (tmp_path / PAGE).exists()
    written = write_pages(both, allow_dirty=True, root=tmp_path)
    assert written == [tmp_path / path for path in (PAGE, README, PERFORMANCE)]
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == render(both)
    part = excerpts(both)[README]
    text = (tmp_path / README).read_text(encoding="utf-8")
    assert text == f"Before.\n{BEGIN}\n{part}\n{END}\nAfter.\n"


def test_the_committed_pages_are_those_of_the_committed_figures():
    """After a measurement, `python -m benchmarks --page` updates them."""
    runs = figures.read(FIGURES)
    assert (ROOT / PAGE).read_text(encoding="utf-8") == render(runs)
    for path, text in excerpts(runs).items():
        page = (ROOT / path).read_text(encoding="utf-8")
        assert page == inserted(page, text, path.name), path
