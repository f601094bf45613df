"""The entries of `queue.toml`, the files of their results and runs, and which entry comes next."""

import json
import shlex
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

QUEUE = "benchmarks/learning/queue.toml"
KINDS = ("run", "peer", "tasks", "adapt", "glam", "instruct")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry: a command that is run once for each seed."""

    name: str
    what: str  # description, for headings and tables
    tier: int  # 1: the evidence this project promises; 2: whenever there is time
    command: str  # words after `python`; the queue adds --seed, --logdir and --resume
    seeds: tuple[int, ...]
    steps: int  # budget of one seed in environment steps: actions · repeat
    minutes: float  # expected duration of one seed
    kind: str = "run"  # "peer": another agent, through peers.py; "tasks", "glam": evaluated by the
    # recipe itself; "adapt", "instruct": a new task, or sentences, on the run of `base`
    hardware: str = "cpu"  # or "gpu"
    baseline_of: str = ""  # of a peer: the entry that it is compared with
    base: str = ""  # the entry whose run is `{run}` in the command
    continues: str = ""  # the finished entry whose runs are continued
    published: str = ""  # "file/task" in docs/results/published
    thresholds: tuple[float, ...] = ()  # scores whose first hit is recorded
    mode: bool = False  # evaluate the mode of the policy too
    group: str = ""  # entries of a group share one table
    scale: float = 1.0  # factor of the rewards; tables divide by it

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.hardware not in ("cpu", "gpu"):
            raise ValueError(
                f"entry {self.name!r} has kind {self.kind!r} and hardware {self.hardware!r}; a "
                f"kind is one of {', '.join(KINDS)}, hardware 'cpu' or 'gpu'"
            )

    @property
    def words(self) -> list[str]:
        """The command as a list."""
        return shlex.split(self.command)


def read_queue(path: Path) -> list[Entry]:
    """The entries in the order of the file.

    Raises:
        ValueError: A field is unknown, a name occurs twice, or an entry refers to one that is not
            above it.
    """
    entries: list[Entry] = []
    known = {field.name for field in fields(Entry)}
    for table in tomllib.loads(path.read_text(encoding="utf-8"))["run"]:
        name, above = table.get("name"), [entry.name for entry in entries]
        if unknown := sorted(table.keys() - known):
            raise ValueError(f"entry {name!r} has the fields {unknown}; known are {sorted(known)}")
        if name in above:
            raise ValueError(f"two entries are named {name!r}; give one of them another name")
        for field in ("baseline_of", "base", "continues"):
            if table.get(field) and table[field] not in above:
                raise ValueError(
                    f"entry {name!r} has {field} = {table[field]!r}, which is not the name of "
                    f"an entry above it; those are {above}"
                )
        lists = {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
        entries.append(Entry(**{**table, **lists}))
    return entries


def data_path(entry: Entry, root: Path) -> Path:
    """The results of an entry in the repository: a list of records, one for each finished seed."""
    return root / "docs" / "results" / "data" / f"{entry.name}.json"


def read_data(path: Path) -> list[dict[str, Any]]:
    """The records in a file of results; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def records(entry: Entry, root: Path) -> list[dict[str, Any]]:
    """The records of the finished seeds of an entry, in the order of its seeds."""
    found = {record["seed"]: record for record in read_data(data_path(entry, root))}
    return [found[seed] for seed in entry.seeds if seed in found]


def run_folder(entry: Entry, seed: int, root: Path) -> Path:
    """The run folder of one seed, which git ignores."""
    return root / "logs" / "results" / entry.name / f"seed-{seed}"


def note_path(entry: Entry, seed: int, root: Path) -> Path:
    """The queue's notes on a run: its provenance, the minutes so far, how it ended."""
    return run_folder(entry, seed, root).with_name(f"seed-{seed}.json")


def unfinished(entry: Entry, root: Path) -> list[int]:
    """The seeds without a record."""
    finished = {record["seed"] for record in records(entry, root)}
    return [seed for seed in entry.seeds if seed not in finished]


def to_run(entry: Entry, entries: list[Entry], root: Path) -> list[int]:
    """The seeds without a record, or without the run that an unfinished entry starts from.

    The repository has only the results of a run; its weights and replay stay in `logs`.
    """
    needed = any(one.base == entry.name and unfinished(one, root) for one in entries)
    gone = [s for s in entry.seeds if not (run_folder(entry, s, root) / "checkpoint").exists()]
    seeds = unfinished(entry, root)
    return [seed for seed in entry.seeds if seed in seeds or (needed and seed in gone)]


def ready(entry: Entry, entries: list[Entry], root: Path) -> bool:
    """Whether the runs that an entry continues or starts from are finished and on disk."""
    needed = (entry.continues, entry.base)
    return not any(one.name in needed and to_run(one, entries, root) for one in entries)


def next_entry(entries: list[Entry], root: Path, *, gpu: bool) -> Entry | None:
    """The first entry with seeds to run that this machine can run and that is `ready`."""
    for entry in entries:
        here = gpu or entry.hardware == "cpu"
        if here and to_run(entry, entries, root) and ready(entry, entries, root):
            return entry
    return None
