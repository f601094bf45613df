"""The command line of `python -m benchmarks.learning`."""

import argparse
import contextlib
import os
from collections.abc import Sequence

import benchmarks.learning
from benchmarks.learning import pages
from benchmarks.learning.entries import QUEUE, Entry, next_entry, ready, to_run
from benchmarks.learning.runner import Queue
from benchmarks.provenance import changed

PEERS = "benchmarks/learning/peers.py"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options, queue = _parser().parse_args(words), Queue()
    if options.list:
        print(pages.overview(queue.entries, queue.root))
        return 0
    code = 0
    if not options.redraw:
        chosen = choose(queue, options.only)
        if waits := [entry for entry in chosen if not ready(entry, queue.entries, queue.root)]:
            raise SystemExit(
                f"{waits[0].name} needs the runs of {waits[0].continues or waits[0].base}, which "
                f"are not finished or not in logs/results; run that first"
            )
        dirty = uncommitted(queue, chosen)
        if dirty and not options.uncommitted:
            raise SystemExit(
                f"{', '.join(dirty)} differ from the commit; configurations are committed before "
                f"the reported seeds start. Commit them, or add --uncommitted for a trial"
            )
        jobs = [(e, seed) for e in chosen for seed in to_run(e, queue.entries, queue.root)]
        print("\n".join(f"{entry.name} seed {seed}" for entry, seed in jobs) or "nothing to do")
        with contextlib.suppress(OSError):
            os.nice(10)
        code = queue.run(jobs, options.jobs)
    pages.redraw(queue.entries, queue.root)
    return code


def choose(queue: Queue, names: list[str]) -> list[Entry]:
    """The entries with these names, or the next one.

    Raises:
        SystemExit: There is no entry with one of the names.
    """
    known = {entry.name: entry for entry in queue.entries}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no entries {unknown} in the queue, which has {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    entry = next_entry(queue.entries, queue.root, gpu=has_gpu())
    return [entry] if entry else []


def uncommitted(queue: Queue, chosen: list[Entry]) -> list[str]:
    """The files that must be committed before these entries start."""
    programs = {PEERS if entry.kind == "peer" else entry.words[0] for entry in chosen}
    return changed(QUEUE, *programs, root=queue.root)


def has_gpu() -> bool:
    """Whether this machine can run the entries that need a GPU."""
    import torch

    return torch.cuda.is_available()


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.learning",
        description=benchmarks.learning.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="entries to run")
    made.add_argument("--jobs", type=int, default=1, help="seeds in parallel")
    made.add_argument("--list", action="store_true", help="list finished and unfinished entries")
    made.add_argument("--redraw", action="store_true", help="only figures and tables")
    made.add_argument("--uncommitted", action="store_true", help="allow uncommitted changes")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
