"""The command: record traces, or compare them with recorded ones or with another commit."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from traces.record import Trace, read, write
from traces.runs import NAMES, traced

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMAND = "tests/traces/__main__.py"
TOLERANCE = 1e-5  # relative, for a loss of the first update on another machine
SMALL = 1e-3  # smallest divisor of a relative error


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/traces", description="Compares runs of the recipes with recorded ones."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; by default all"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--record", action="store_true", help="record instead of comparing")
    how.add_argument(
        "--base", metavar="COMMIT", help="compare exactly with runs of COMMIT on this machine"
    )
    parser.add_argument("--folder", type=Path, default=HERE, help="folder of the recorded traces")
    asked = parser.parse_args(arguments)
    names = asked.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no trace is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if asked.record:
        return record(names, asked.folder)
    if not asked.base:
        return compare(names, asked.folder)
    with tempfile.TemporaryDirectory() as folder:
        record_commit(asked.base, asked.names, Path(folder))
        return compare(names, Path(folder) / "traces")


def record(names: list[str], folder: Path) -> int:
    """Write traces, and print what changed in those that existed."""
    for name in names:
        path, now = folder / f"{name}.json", traced(name)
        text = f"recorded, {len(now['events'])} events"
        if path.exists():
            old = read(path)
            found = difference(old, now, exact=True)
            text = f"changed: {first_losses(old, now)}; {found}" if found else "unchanged"
        write(path, now)
        print(f"{name}: {text}", flush=True)
    return 0


def compare(names: list[str], folder: Path) -> int:
    """Print whether every run is as recorded; 1 if one is not."""
    failed = 0
    for name in names:
        path, start = folder / f"{name}.json", time.monotonic()
        ok, text = False, f"no {path}; `python tests/traces {name} --record` makes it"
        if path.exists():
            ok, text = verdict(read(path), traced(name))
        failed += not ok
        print(f"{name}: {text} ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{len(names) - failed} of {len(names)} are as recorded")
    return int(failed > 0)


def record_commit(commit: str, names: list[str], folder: Path) -> None:
    """Record traces of a commit on this machine, with its own code in a clean checkout."""
    git, tree = ["git", "-C", str(ROOT)], folder / "tree"
    known = subprocess.run([*git, "cat-file", "-e", f"{commit}:{COMMAND}"], capture_output=True)
    if known.returncode:
        raise SystemExit(f"--base takes a commit that has {COMMAND}, such as HEAD, got {commit!r}")
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), commit], check=True)
    try:
        command = [sys.executable, str((tree / COMMAND).parent), *names]
        command += ["--record", "--folder", str(folder / "traces")]
        subprocess.run(command, check=True, cwd=tree)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)


def other_machine(recorded: Trace, now: Trace) -> str:
    """The differences between the machines of two traces; "" if there are none."""
    theirs, ours = recorded["machine"], now["machine"]
    differ = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name)}, here {ours.get(name)}" for name in differ)


def difference(recorded: Trace, now: Trace, exact: bool) -> str:
    """The first difference in a sentence; "" if there is none.

    Args:
        exact: compare to the bit; else only the events, their machine-independent part, and the
            losses of the first update.
    """
    theirs, ours, counts = recorded["events"], now["events"], dict[str, int]()
    for place, (old, new) in enumerate(zip(theirs, ours, strict=False), 1):
        name = new[0]
        counts[name] = counts.get(name, 0) + 1
        where = f"event {place} of {len(theirs)}, {name} number {counts[name]}"
        if old[0] != name:
            return f"{where}: recorded is {words(old)}"
        if old[1] != new[1]:
            keys = [key for key in {**old[1], **new[1]} if old[1].get(key) != new[1].get(key)]
            pairs = [f"{key} {new[1].get(key)}, recorded {old[1].get(key)}" for key in keys]
            return f"{where}: {'; '.join(pairs)}"
        first = name == "update" and counts[name] == 1
        if found := other_values(old[2], new[2], 0 if exact else TOLERANCE if first else None):
            return f"{where}: {found}"
    if len(theirs) == len(ours):
        return ""
    longer, events = ("recorded", theirs) if len(theirs) > len(ours) else ("new", ours)
    rest = words(events[min(len(theirs), len(ours))])
    return f"the end: {len(ours)} events, recorded {len(theirs)}; the {longer} go on with {rest}"


def other_values(old: Any, new: Any, tolerance: float | None) -> str:
    """How the values of an event differ; "" if they do not.

    Args:
        tolerance: 0 to compare to the bit, else the tolerance of losses, None for any value.
    """
    if isinstance(old, str) or isinstance(new, str):
        return "" if tolerance != 0 or old == new else f"other values, {new}, recorded {old}"
    if old.keys() != new.keys():
        return f"losses {list(new)}, recorded {list(old)}"
    for name in new:
        if isinstance(new[name], str):
            if found := other_values(old[name], new[name], tolerance):
                return f"{name}: {found}"
        elif tolerance is not None and not apart(old[name], new[name]) <= tolerance:
            return f"the loss {name} is {new[name]!r}, recorded {old[name]!r}"
    return ""


def apart(old: float, new: float) -> float:
    """The relative error of a loss; NaN if one of the two is."""
    return abs(new - old) / max(abs(old), SMALL)


def first_losses(recorded: Trace, now: Trace) -> str:
    """The largest error of a loss of the first update, in words."""
    pair = [
        next((event[2] for event in events if event[0] == "update"), {})
        for events in (recorded["events"], now["events"])
    ]
    both = [name for name in pair[1] if isinstance(pair[0].get(name), float)]
    if not both:
        return "no loss of the first update is in both"
    name = max(both, key=lambda name: apart(pair[0][name], pair[1][name]))
    error = apart(pair[0][name], pair[1][name])
    return f"the losses of the first update differ by at most {error:.3g} ({name})"


def words(event: list) -> str:
    """An event as text."""
    return " ".join([event[0], ", ".join(f"{key} {value}" for key, value in event[1].items())])


def verdict(recorded: Trace, now: Trace) -> tuple[bool, str]:
    """Whether a trace is as recorded, and a sentence on how it was compared."""
    elsewhere = other_machine(recorded, now)
    if found := difference(recorded, now, exact=not elsewhere):
        how = f"; recorded elsewhere: {elsewhere}" if elsewhere else ""
        return False, f"not as recorded; the first difference is at {found}{how}"
    if not elsewhere:
        return True, f"equal to the bit, {len(now['events'])} events"
    return True, (
        f"the same events, and losses of the first update within {TOLERANCE}; for an exact "
        f"comparison use --base COMMIT, since this was recorded elsewhere: {elsewhere}"
    )
