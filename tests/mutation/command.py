"""The command: draw mutants, run those that are not known yet, keep what came of them."""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from mutation.forks import Outcome
from mutation.mutate import Mutant
from mutation.parts import PARTS, ROOT, Part
from mutation.session import Coverage, Session, mutants, outcome

KEPT = ROOT / ".mutation"


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 if a mutant survived that nothing explains."""
    parser = argparse.ArgumentParser(prog="python tests/mutation")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="part", help=str([*PARTS]))
    parser.add_argument("--sample", type=int, help="mutants of each part; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the draw: a larger one adds to it")
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    parser.add_argument("--jobs", type=int, default=1, help="forks at a time")
    given = parser.parse_args(arguments)
    names = given.parts or [*PARTS]
    if len(names) > 1:  # a pytest of its own for each
        rest = [argument for argument in arguments if argument not in PARTS]
        commands = [[sys.executable, str(ROOT / "tests/mutation"), name, *rest] for name in names]
        return max(subprocess.run(command).returncode for command in commands)
    drawn = draw(PARTS[names[0]], given.sample, given.seed, given.only)
    run(names[0], drawn, time.monotonic() + given.seconds, given.jobs)
    return 0


def draw(part: Part, sample: int | None, seed: int, only: str) -> list[Mutant]:
    """Mutants of a part in the order of a shuffle, so that a larger sample contains a smaller."""
    found = [mutant for mutant in mutants(part) if only in mutant.name]
    random.Random(seed).shuffle(found)
    return found[:sample]


def run(name: str, drawn: list[Mutant], until: float, jobs: int) -> None:
    """Run those of one part that are not known yet."""
    known = load(name)
    todo = [mutant for mutant in drawn if mutant.digest() not in known]
    print(f"{name}: {len(drawn)} drawn, {len(todo)} to run", flush=True)
    if not todo or time.monotonic() > until:
        return

    def work(session: Session) -> None:
        cover = covered(name, session)
        session.warm(cover)
        running: dict[int, tuple] = {}
        queue = list(todo)
        while running or (queue and time.monotonic() < until):
            while queue and len(running) < jobs and time.monotonic() < until:
                mutant = queue.pop(0)
                tests = session.tests(mutant, cover)
                if not tests:
                    keep(name, mutant, Outcome("untested"))
                    continue
                child = session.start(mutant, tests, cover)
                running[child.pid] = mutant, child
            for pid, (mutant, child) in list(running.items()):
                found = child.result(wait=False)
                if found is not None:
                    keep(name, mutant, outcome(found, round(time.monotonic() - child.began, 1)))
                    del running[pid]
            time.sleep(0.005)

    status = Session(PARTS[name], work).run()
    if status not in (0, 5):
        raise SystemExit(f"{name}: pytest ended with {status}")


def covered(name: str, session: Session) -> Coverage:
    """Times and lines of the tests; measured once for each state of source and tests."""
    path = KEPT / f"{name}-{tests_digest(PARTS[name])}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(session.measure()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def tests_digest(part: Part) -> str:
    """Of the text of all files that a part's tests and its source are."""
    places = [ROOT / place for place in part.paths()]
    files = [file for x in places for file in (sorted(x.rglob("*.py")) if x.is_dir() else [x])]
    return hashlib.sha1(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def keep(name: str, mutant: Mutant, found: Outcome) -> None:
    """Add a line to what is known of a part."""
    line = {"digest": mutant.digest(), "name": mutant.name, **found._asdict()}
    if not found.caught:
        line["tests"] = tests_digest(PARTS[name])
        print(f"  {found.state}: {mutant.name}", *mutant.change(), sep="\n    ", flush=True)
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def load(name: str) -> dict[str, Outcome]:
    """What is known of a part: a caught one stays caught, a survivor may meet new tests."""
    path, tests = KEPT / f"{name}.jsonl", tests_digest(PARTS[name])
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [json.loads(line) for line in lines]
    return {
        one["digest"]: Outcome(one["state"], one["by"], one["seconds"])
        for one in kept
        if one.get("tests", tests) == tests
    }


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
