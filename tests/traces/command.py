"""The command: record, or compare with what is recorded or with another commit."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from traces.compare import difference, first_losses, verdict
from traces.record import read, write
from traces.runs import NAMES, traced

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMAND = "tests/traces/__main__.py"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/traces", description="Compares runs of the recipes with recorded ones."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; or all")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--record", action="store_true", help="record anew instead")
    how.add_argument("--base", metavar="COMMIT", help="compare exactly with what COMMIT does here")
    parser.add_argument("--folder", type=Path, default=HERE, help="of the recorded traces")
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
    """Write traces; of one that was there, say what changed."""
    for name in names:
        path, now = folder / f"{name}.json", traced(name)
        said = f"recorded, {len(now['events'])} events"
        if path.exists():
            old = read(path)
            found = difference(old, now, exact=True)
            said = f"changed: {first_losses(old, now)}; {found}" if found else "unchanged"
        write(path, now)
        print(f"{name}: {said}", flush=True)
    return 0


def compare(names: list[str], folder: Path) -> int:
    """Say of every run whether it is as recorded; 1 if one is not."""
    failed = 0
    for name in names:
        path, start = folder / f"{name}.json", time.monotonic()
        ok, said = False, f"no {path}; `python tests/traces {name} --record` makes it"
        if path.exists():
            ok, said = verdict(read(path), traced(name))
        failed += not ok
        print(f"{name}: {said} ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{len(names) - failed} of {len(names)} are as recorded")
    return int(failed > 0)


def record_commit(commit: str, names: list[str], folder: Path) -> None:
    """Traces of a commit on this machine, made by its own code in a clean checkout."""
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
