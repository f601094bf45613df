"""What a run found: kept in a file, shown on a page of the documentation."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

from mutation.parts import ROOT

FOUND = Path(__file__).with_name("found.json")
REASONS = Path(__file__).with_name("survivors.toml")
PAGE = ROOT / "docs" / "mutation.md"
STATES = ("killed", "crashed", "endless", "survived", "untested")
HEAD = """# Mutants of a tool

[Faults by hand](mutants.md) are those we thought of. These are those we did not: every function of
the numeric core is changed in every small way that [mutmut](https://github.com/boxed/mutmut) knows
(`<` for `<=`, `+` for `-`, a number plus one, an argument left out or `None`, an assignment of
`None`, …), one change at a time, and the tests of that module run until one fails. What no test
notices is a survivor, and is explained below or has become a test.

```bash
pip install -c constraints.txt -e ".[dev]"
{command}
```

{tool}, commit `{commit}`, {date}. {sampled}

| module | mutants | drawn | killed | crashed | endless | survived | untested | score | noticeable |
|---|---|---|---|---|---|---|---|---|---|
{rows}

In the first run, before tests were written for what survived, the scores were
{first}. Survivors of it then met the new tests.

- **score**: killed, crashed and endless of all that were drawn. In brackets, where a sample was
  drawn, the 95% Wilson interval of the score of all.
- **endless**: out of {factor} times the time of its tests, or of memory; a test run would notice.
- **untested**: no test of the module runs the line. Counted as survivors.
- **noticeable**: the score without survivors of the kind *{same}*. The score itself counts
  them as survivors, and they are listed with their reason.
- mutmut alone leaves every function with a decorator as it is, so every `@typed` one. Therefore
  `tests/mutation` takes its operators and its rules, and exchanges the code of the function in a
  fork of one pytest that has imported and collected once: half of the mutants took less than
  {each} seconds.
- Not mutated: constants of modules and classes, annotations and decorators, `len` and `isinstance`
  (mutmut's rules); the strings of a `raise` (ours: that a message says *these* words is tested by
  a pattern, not to the letter).
- Run against it: the tests of the module itself and its doctests, on fixed hypothesis examples;
  without tests that compile and without those that take {longest:.0f} s. A survivor here may well
  be caught by the rest of the suite: the golden arrays, the conformance checks, the recipes.
- `python tests/mutation` goes on where it stopped: `--seconds`, `--sample`, `--seed`, `--jobs`;
  `--page` writes this page from what has been found.

## Survivors

{survivors}
"""

FIRST = {
    "transforms": 0.957,
    "returns": 0.942,
    "losses": 0.969,
    "distributions": 0.953,
    "rssm": 0.975,
    "replay": 0.828,
}


def write(found: dict[str, Any]) -> None:
    """Keep what a run found, and show it."""
    FOUND.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")


def load() -> dict[str, Any]:
    """What the last run found."""
    return json.loads(FOUND.read_text(encoding="utf-8"))


def kinds() -> list[dict[str, Any]]:
    """Kinds of survivors, each with what is said of it and its members."""
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))["kind"]


def reasons() -> dict[tuple[str, str, str], tuple[str, str]]:
    """Kind and reason of each survivor that is explained, by function, text before and after."""
    return {
        (one["where"], one["was"], one["is"]): (kind["name"], one.get("why", ""))
        for kind in kinds()
        for one in kind.get("of", [])
    }


def unexplained(found: dict[str, Any]) -> list[list[str]]:
    """Survivors that no reason is given for."""
    known = reasons()
    parts = found["parts"].values()
    return [one for part in parts for one in part["survivors"] if tuple(one) not in known]


def page(found: dict[str, Any]) -> str:
    """The page of the documentation."""
    known, parts = reasons(), found["parts"]
    rows = "\n".join(row(name, part, known) for name, part in parts.items())
    sampled = [name for name, part in parts.items() if part["drawn"] < part["mutants"]]
    text = "Every mutant was run."
    if sampled:
        text = f"Of {', '.join(sampled)} a random sample was run (seed {found['seed']})."
    texts = [section(kind, parts, known) for kind in kinds()]
    fill = {key: found[key] for key in ("tool", "commit", "date", "command", "factor", "longest")}
    return HEAD.format(
        **fill,
        rows=rows,
        sampled=text,
        same=kinds()[0]["name"],
        first=", ".join(f"{score:.1%} of {name}" for name, score in FIRST.items()),
        each=found["each"],
        survivors="\n".join(text for text in texts if text).strip(),
    )


def row(name: str, part: dict[str, Any], known: dict[tuple, tuple[str, str]]) -> str:
    caught = sum(part["states"].get(state, 0) for state in ("killed", "crashed", "endless"))
    drawn, all_of_them = part["drawn"], part["mutants"]
    first = kinds()[0]["name"]
    same = sum(known.get(tuple(one), ("",))[0] == first for one in part["survivors"])
    score = f"**{caught / drawn:.1%}**"
    if drawn < all_of_them:
        low, high = wilson(caught, drawn)
        score += f" [{low:.1%}, {high:.1%}]"
    counts = [part["states"].get(state, 0) for state in STATES]
    cells = [name, all_of_them, drawn, *counts, score, f"{caught / (drawn - same):.1%}"]
    return f"| {' | '.join(map(str, cells))} |"


def wilson(caught: int, drawn: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share of which a sample is known (Wilson 1927)."""
    share = caught / drawn
    middle = share + z**2 / (2 * drawn)
    half = z * math.sqrt(share * (1 - share) / drawn + z**2 / (4 * drawn**2))
    scale = 1 + z**2 / drawn
    return (middle - half) / scale, (middle + half) / scale


def section(kind: dict[str, Any], parts: dict[str, Any], known: dict[tuple, Any]) -> str:
    """The survivors of one kind."""
    lines = []
    for part in parts.values():
        for one in part["survivors"]:
            name, why = known.get(tuple(one), ("", ""))
            if name == kind["name"]:
                where, was, now = one
                lines.append(f"| `{where}` | {code(was, now)} | {why} |")
    if not lines:
        return ""
    head = f"### {kind['name'].capitalize()} ({len(lines)})\n\n{kind['why']}\n"
    return "\n".join([head, "| function | change | |", "|---|---|---|", *lines, ""])


def code(was: str, now: str) -> str:
    """A change on one line: only what differs, with a few characters around it."""
    start = 0
    while start < min(len(was), len(now)) and was[start] == now[start]:
        start += 1
    end = 0
    while end < min(len(was), len(now)) - start and was[-1 - end] == now[-1 - end]:
        end += 1
    start, end = max(0, start - 24), max(0, end - 24)
    texts = (text[start : len(text) - end].strip().replace("|", "\\|") for text in (was, now))
    return " → ".join(f"`` {text or ' '} ``" for text in texts)
