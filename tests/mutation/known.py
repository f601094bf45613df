"""What is known of mutants, kept in `.mutation/`: a run goes on where the last one stopped."""

import hashlib
import json

from mutation.forks import Outcome
from mutation.mutate import Mutant
from mutation.parts import PARTS, ROOT, Part
from mutation.session import Coverage, Session

KEPT = ROOT / ".mutation"


def covered(name: str, tests_are: str, session: Session) -> Coverage:
    """Times and lines of the tests; measured once for each state of source and tests."""
    path = KEPT / f"{name}-{tests_are}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        cover = session.measure()
        session.warm(cover)
        session.check(cover)
        path.write_text(json.dumps(cover), encoding="utf-8")
    cover = json.loads(path.read_text(encoding="utf-8"))
    session.warm(cover)
    return cover


def tests_digest(part: Part) -> str:
    """Of the text of all files that a part's tests and its source are."""
    places = [ROOT / place for place in part.paths()]
    files = [file for x in places for file in (sorted(x.rglob("*.py")) if x.is_dir() else [x])]
    return hashlib.sha1(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def keep(name: str, tests_are: str, mutant: Mutant, found: Outcome) -> None:
    """Add a line to what is known of a part."""
    line = {"digest": mutant.digest(), "name": mutant.name, **found._asdict()}
    if not found.caught:
        line["tests"] = tests_are
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def load(name: str) -> dict[str, Outcome]:
    """What is known of a part: the caught stay caught, a survivor may meet new tests."""
    path, tests_are = KEPT / f"{name}.jsonl", tests_digest(PARTS[name])
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [json.loads(line) for line in lines]
    return {
        one["digest"]: Outcome(one["state"], one["by"], one["seconds"])
        for one in kept
        if one.get("tests", tests_are) == tests_are
    }
