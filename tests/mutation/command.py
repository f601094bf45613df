"""The command: draw mutants, run those that are not known yet, keep and show what came of them."""

import argparse
import datetime
import importlib.metadata
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from mutation import known, page
from mutation.forks import FACTOR, Child, Outcome
from mutation.mutate import Mutant
from mutation.parts import PARTS, ROOT, Part
from mutation.session import LONGEST, Session, mutants, outcome


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 if pytest could not, or if a survivor on the page is unexplained."""
    parser = argparse.ArgumentParser(prog="python tests/mutation")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--sample", type=int, help="mutants of each part; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    parser.add_argument("--jobs", type=int, default=1, help="forks at a time")
    parser.add_argument("--page", action="store_true", help="write what is known to the page")
    given = parser.parse_args(arguments)
    if wrong := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(wrong))}; there are {', '.join(PARTS)}")
    if given.page:
        return show(given.seed)
    names = given.parts or [*PARTS]
    if len(names) > 1:  # a pytest of its own for each
        rest = [argument for argument in arguments if argument not in PARTS]
        commands = [[sys.executable, str(ROOT / "tests/mutation"), name, *rest] for name in names]
        return max(subprocess.run(command).returncode for command in commands)
    drawn = draw(PARTS[names[0]], given.seed, given.only)[: given.sample]
    return run(names[0], drawn, time.monotonic() + given.seconds, given.jobs)


def draw(part: Part, seed: int, only: str = "") -> list[Mutant]:
    """Mutants of a part, shuffled: the first of them are a sample, and more of them a larger."""
    found = [mutant for mutant in mutants(part) if only in mutant.name]
    random.Random(seed).shuffle(found)
    return found


def run(name: str, drawn: list[Mutant], until: float, jobs: int) -> int:
    """Run those of one part that are not known yet."""
    before = known.load(name)
    queue = [mutant for mutant in drawn if mutant.digest() not in before]
    print(f"{name}: {len(drawn)} drawn, {len(queue)} to run", flush=True)
    if not queue:
        return 0
    tests_are = known.tests_digest(PARTS[name])  # now: what is collected here may change on disk

    def work(session: Session) -> None:
        cover = known.covered(name, tests_are, session)
        running: dict[Child, Mutant] = {}
        while running or (queue and time.monotonic() < until):
            while queue and len(running) < jobs and time.monotonic() < until:
                mutant = queue.pop(0)
                if tests := session.tests(mutant, cover):
                    running[session.start(mutant, tests, cover)] = mutant
                else:
                    known.keep(name, tests_are, mutant, Outcome("untested"))
            for child in [*running]:
                found = child.result()
                if found is not None:
                    came = outcome(found, round(time.monotonic() - child.began, 1))
                    known.keep(name, tests_are, running.pop(child), came)
            time.sleep(0.005)

    status = Session(PARTS[name], work).run()
    for mutant in drawn:
        came = known.load(name).get(mutant.digest())
        if came and not came.caught:
            print(f"  {came.state}: {mutant.name}", *mutant.change(), sep="\n    ")
    return 0 if status == 5 else status  # 5: no test was run, here


def show(seed: int) -> int:
    """Write the page: of each part as many of its draw as are known, up to the first that is not.

    Not all that are known: after a change of the tests survivors are unknown again, and the caught
    ones without them would be no sample.
    """
    parts = {name: summary(name, seed) for name in PARTS}
    seconds = [one for part in parts.values() for one in part.pop("seconds")]
    head = ["git", "rev-parse", "--short", "HEAD"]
    found: dict[str, Any] = {
        "tool": f"mutmut {importlib.metadata.version('mutmut')}",
        "commit": subprocess.run(head, cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "command": f"python tests/mutation --seed {seed}",
        "seed": seed,
        "factor": FACTOR,
        "longest": LONGEST,
        "each": sorted(seconds)[len(seconds) // 2],
        "parts": parts,
    }
    page.write(found)
    left = page.unexplained(found)
    for where, was, now in left:
        print(f"[[kind.of]]\nwhere = '''{where}'''\nwas = '''{was}'''\nis = '''{now}'''\n")
    print(f"{page.PAGE}: {len(left)} survivors that tests/mutation/survivors.toml does not explain")
    return int(bool(left))


def summary(name: str, seed: int) -> dict[str, Any]:
    """What is known of a part."""
    outcomes, all_of_them = known.load(name), draw(PARTS[name], seed)
    run = [*itertools.takewhile(lambda mutant: mutant.digest() in outcomes, all_of_them)]
    came = [outcomes[mutant.digest()] for mutant in run]
    left = [mutant for mutant, what in zip(run, came, strict=True) if not what.caught]
    return {
        "mutants": len(all_of_them),
        "drawn": len(run),
        "states": Counter(one.state for one in came),
        "seconds": [one.seconds for one in came],
        "survivors": sorted([one.name.rpartition(":")[0], *one.change()] for one in left),
    }
