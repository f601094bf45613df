"""The next run of the queue: train, evaluate, keep, redraw.

    python results/next.py                    the next unfinished entry, its seeds one by one
    python results/next.py --jobs 2           two seeds side by side
    python results/next.py --only NAME …      these entries
    python results/next.py --list             what is done and what is not
    python results/next.py --redraw           only figures and tables

Ctrl-C or SIGTERM lets each run save; the same command goes on from there. What is being run lies
in `logs/results`, what is kept in `results`.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import multitask
import pages
from entries import ON_A_RUN, RESULT, Entry, next_entry, read_queue, ready, seed_folder, to_run
from provenance import changed, provenance

import worldblocks as wb

ROOT = Path(__file__).parents[1]
EPISODES = 100


class Queue:
    """Runs jobs, an entry and a seed each, below the root of a repository."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root, self.results, self.logs = root, root / "results", root / "logs" / "results"
        self.entries = read_queue(self.results / "queue.toml")
        self.lock, self.stopping = threading.Lock(), False
        self.children: list[subprocess.Popen[str]] = []

    def run(self, jobs: list[tuple[Entry, int]], side_by_side: int) -> int:
        """Do all jobs; 0 if each of them has its result."""
        with wb.run.Interrupt() as interrupt, ThreadPoolExecutor(side_by_side) as pool:
            futures = [pool.submit(self.job, *job) for job in jobs]
            while not all(future.done() for future in futures):
                if interrupt.requested and not self.stopping:
                    self.stop()
                time.sleep(0.05)
        return int(not all(future.result() for future in futures))

    def stop(self) -> None:
        """Ask every child to save and leave; start no more."""
        with self.lock:
            self.stopping = True
            for child in self.children:
                child.terminate()

    def job(self, entry: Entry, seed: int) -> bool:
        """Train one seed of an entry, judge it, keep it; whether it has its result."""
        if self.stopping:
            return False
        run = seed_folder(entry, seed, self.logs)
        kept = seed_folder(entry, seed, self.results)
        note = self.begin(entry, seed, run)
        code = 0 if note["trained"] else self.train(entry, seed, run, note)
        if code or self.stopping:
            if code and not self.stopping:
                self.tell(event="failed", name=entry.name, seed=seed, code=code)
            print(f"{entry.name} seed {seed}: not finished (exit code {code}); see {run}.log")
            return False
        if entry.kind in ("peer", *ON_A_RUN):
            shutil.copytree(run, kept, dirs_exist_ok=True)
            result = json.loads((kept / RESULT).read_text(encoding="utf-8"))
            note["minutes"] = round(note["minutes"], 1)
            names = ("commit", "changed") if entry.kind == "peer" else note.keys() - {"trained"}
            result |= {key: note[key] for key in names}
            result |= {"name": entry.name, "command": command_of(entry, seed)}
        else:
            judge = self.judge if entry.kind == "run" else self.judged
            result = judge(entry, seed, run, note)
            if not result:
                return False
            shutil.rmtree(kept, ignore_errors=True)  # of a run that is made again
            wb.run.export(run, kept)
            if entry.group:  # experiments of a minute, many of them: their curves alone
                shutil.rmtree(kept / "checkpoint")
                (kept / "curve.png").unlink(missing_ok=True)
        (kept / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        self.tell(event="finished", **{"name": entry.name, **pages.line(result)})
        return True

    def begin(self, entry: Entry, seed: int, run: Path) -> dict[str, Any]:
        """The note beside a run folder: made at the start, so that its commit is the one used."""
        path = note_path(run)
        note = {"trained": False, "minutes": 0.0, **provenance(self.root)}
        if path.exists():
            return note | json.loads(path.read_text(encoding="utf-8"))
        run.parent.mkdir(parents=True, exist_ok=True)
        for base in [one for one in self.entries if one.name == entry.continues]:
            before = seed_folder(base, seed, self.logs)
            if before.exists():  # else the run is made from its beginning, which comes to the same
                part = run.with_name(f"{run.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(before, part)
                part.replace(run)
                note["minutes"] = self.begin(base, seed, before)["minutes"]
        path.write_text(json.dumps(note), encoding="utf-8")
        self.tell(event="started", name=entry.name, seed=seed, commit=note["commit"])
        return note

    def train(self, entry: Entry, seed: int, run: Path, note: dict[str, Any]) -> int:
        """Run or resume the command; its exit code. The note keeps the minutes it took."""
        words = [*entry.words, "--seed", str(seed), "--logdir", str(run)]
        for base in [one for one in self.entries if one.name == entry.beside]:
            words = [word.format(run=seed_folder(base, seed, self.logs)) for word in words]
        if (run / "config.json").exists():
            if entry.kind == "peer":
                shutil.rmtree(run)  # a peer starts again: it takes minutes
            else:
                words.append("--resume")
        started = time.monotonic()
        with run.with_name(f"{run.name}.log").open("a", encoding="utf-8") as log:
            code = self.call(words, log)
        note["minutes"] += (time.monotonic() - started) / 60
        note["trained"] = code == 0
        note_path(run).write_text(json.dumps(note), encoding="utf-8")
        return code

    def judge(self, entry: Entry, seed: int, run: Path, note: dict[str, Any]) -> dict[str, Any]:
        """The result of a trained run; nothing where an evaluation did not end."""
        played = self.evaluate(run, *["--mode"] * entry.mode)
        if not played:
            print(f"{entry.name} seed {seed}: no evaluation; see {run}.evaluation.log")
            return {}
        parameters = played.pop("parameters")
        # With --mode the sampled actions, those of published scores, come inside.
        scores = {"score": played.pop("sampled", played)} | ({"mode": played} if entry.mode else {})
        config = wb.run.read_config(run)
        result = {"name": entry.name, "seed": seed, **scores, "parameters": parameters}
        result |= {"steps": config["steps"] * config.get("repeat", 1)}
        result |= {"first_hit": pages.first_hits(run, entry.thresholds)}
        result |= {"command": command_of(entry, seed)}
        return result | {**note, "minutes": round(note["minutes"], 1)}

    def judged(self, entry: Entry, seed: int, run: Path, note: dict[str, Any]) -> dict[str, Any]:
        """The result of a run that judges itself: several tasks, or success."""
        if entry.kind == "tasks":
            told = multitask.judged(run)
        else:
            told = {"success": wb.run.read_jsonl(run / "metrics.jsonl")[-1]["judged/success"]}
        tensors = wb.run.Checkpoint(run).weights("agent").values()
        config = wb.run.read_config(run)
        result = {"name": entry.name, "seed": seed, **told}
        result |= {"parameters": sum(x.numel() for x in tensors)}
        result |= {"steps": config["steps"] * config.get("repeat", 1)}
        result |= {"command": command_of(entry, seed)}
        return result | {**note, "minutes": round(note["minutes"], 1)}

    def evaluate(self, run: Path, *options: str) -> dict[str, Any]:
        """What `recipes/evaluate.py` prints last."""
        words = ["recipes/evaluate.py", str(run), "--episodes", str(EPISODES), "--json", *options]
        path = run.with_name(f"{run.name}.evaluation.log")
        with path.open("w", encoding="utf-8") as log:
            code = self.call([*words, "--video", "0"], log)
        lines = path.read_text(encoding="utf-8").splitlines()
        return json.loads(lines[-1]) if code == 0 else {}

    def call(self, words: list[str], log: Any) -> int:
        """Run a Python command with one thread and no shape checks; only `stop` ends it."""
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        environment = {**os.environ, **one, "JAXTYPING_DISABLE": "1"}
        with self.lock:
            if self.stopping:
                return -1
            options = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            command = [sys.executable, *words]
            child = subprocess.Popen(
                command, cwd=self.root, env=environment, start_new_session=True, **options
            )
            self.children.append(child)
        code = child.wait()
        with self.lock:
            self.children.remove(child)
        return code

    def tell(self, **facts: Any) -> None:
        """Append a line to `results.jsonl`."""
        with self.lock, (self.results / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"date": time.strftime("%Y-%m-%d"), **facts}) + "\n")


def note_path(run: Path) -> Path:
    """The note beside a run folder."""
    return run.with_name(f"{run.name}.json")


def command_of(entry: Entry, seed: int) -> str:
    """What a user types for one seed."""
    return f"python {entry.command} --seed {seed}"


def uncommitted(queue: Queue, chosen: list[Entry]) -> list[str]:
    """What must be committed before these entries start."""
    recipes = {entry.words[0] for entry in chosen}
    return changed(queue.root, "results/queue.toml", *recipes)


def choose(queue: Queue, names: list[str]) -> list[Entry]:
    """The entries of these names, or the next one.

    Raises:
        SystemExit: There is no entry of a name.
    """
    known = {entry.name: entry for entry in queue.entries}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no entries {unknown} in the queue, which has {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    entry = next_entry(queue.entries, queue.results, gpu=has_gpu())
    return [entry] if entry else []


def has_gpu() -> bool:
    """Whether the entries that need one can run here."""
    import torch

    return torch.cuda.is_available()


def main(cfg: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    queue = Queue()
    if cfg.list:
        print(pages.overview(queue.entries, queue.results))
        return 0
    code = 0
    if not cfg.redraw:
        chosen = choose(queue, cfg.only)
        if waits := [entry for entry in chosen if not ready(entry, queue.entries, queue.results)]:
            raise SystemExit(
                f"{waits[0].name} needs the runs of {waits[0].continues or waits[0].beside}, which "
                f"are not finished or not in logs/results; run that first"
            )
        dirty = uncommitted(queue, chosen)
        if dirty and not cfg.uncommitted:
            raise SystemExit(
                f"{', '.join(dirty)} differ from the commit; configurations are committed before "
                f"the seeds that are reported start. Commit, or add --uncommitted to try"
            )
        jobs = [(e, seed) for e in chosen for seed in to_run(e, queue.entries, queue.results)]
        print("\n".join(f"{entry.name} seed {seed}" for entry, seed in jobs) or "nothing to do")
        with contextlib.suppress(OSError):
            os.nice(10)
        code = queue.run(jobs, cfg.jobs)
    pages.redraw(queue.entries, queue.root)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="entries to run")
    made.add_argument("--jobs", type=int, default=1, help="seeds side by side")
    made.add_argument("--list", action="store_true", help="what is done and what is not")
    made.add_argument("--redraw", action="store_true", help="only figures and tables")
    made.add_argument("--uncommitted", action="store_true", help="run what is not committed")
    return made


if __name__ == "__main__":
    sys.exit(main(parser().parse_args()))
