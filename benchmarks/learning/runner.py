"""Runs the entries of the queue: train, evaluate, store the results."""

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

import worldblocks as wb
from benchmarks import ROOT
from benchmarks.learning import PACKAGES, data, grounding, multitask
from benchmarks.learning.entries import QUEUE, Entry, note_path, read_queue, run_folder
from benchmarks.provenance import changed, provenance

EPISODES = 100


class Queue:
    """Runs jobs, each an entry and a seed, in a repository."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root, self.entries = root, read_queue(root / QUEUE)
        self.lock, self.stopping = threading.Lock(), False
        self.children: list[subprocess.Popen[str]] = []

    def run(self, jobs: list[tuple[Entry, int]], side_by_side: int) -> int:
        """Run all jobs; 0 if every job has a result."""
        with wb.run.Interrupt() as interrupt, ThreadPoolExecutor(side_by_side) as pool:
            futures = [pool.submit(self.job, *job) for job in jobs]
            while not all(future.done() for future in futures):
                if interrupt.requested and not self.stopping:
                    self.stop()
                time.sleep(0.05)
        return int(not all(future.result() for future in futures))

    def stop(self) -> None:
        """Ask every child to save and exit, and start no others."""
        with self.lock:
            self.stopping = True
            for child in self.children:
                child.terminate()

    def job(self, entry: Entry, seed: int) -> bool:
        """Train and evaluate one seed of an entry and store its results; whether that worked."""
        if self.stopping:
            return False
        run, note = run_folder(entry, seed, self.root), self.begin(entry, seed)
        code = 0 if note["trained"] else self.train(entry, seed, note)
        if code or self.stopping:
            print(f"{entry.name} seed {seed}: not finished (exit code {code}); see {run}.log")
            return False
        results = self.evaluate(entry, run)
        if not results:
            print(f"{entry.name} seed {seed}: no evaluation; see {run}.evaluation.log")
            return False
        result = {**note, "minutes": round(note["minutes"], 1), **results}
        result |= {
            "name": entry.name,
            "seed": seed,
            "command": f"python {entry.command} --seed {seed}",
        }
        data.keep(entry, run, result, self.root, self.thresholds(entry))
        multitask.copy_picture(entry, seed, self.root)
        grounding.copy_picture(entry, seed, self.root)
        return True

    def thresholds(self, entry: Entry) -> tuple[float, ...]:
        """Scores whose first hit is recorded; those of a peer come from its `baseline_of`."""
        if entry.kind != "peer":
            return entry.thresholds
        return next(one.thresholds for one in self.entries if one.name == entry.baseline_of)

    def begin(self, entry: Entry, seed: int) -> dict[str, Any]:
        """The notes on a run, written at its start so that they name the commit that ran."""
        path = note_path(entry, seed, self.root)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        run = run_folder(entry, seed, self.root)
        run.parent.mkdir(parents=True, exist_ok=True)
        note = {"trained": False, "minutes": 0.0, **provenance(PACKAGES, self.root)}
        note["changed"] = changed("src", "recipes", "benchmarks/learning", root=self.root)
        for base in [one for one in self.entries if one.name == entry.continues]:
            before = run_folder(base, seed, self.root)
            if before.exists():  # else it runs from the beginning, with the same result
                part = run.with_name(f"{run.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(before, part)
                part.replace(run)
                note["minutes"] = self.begin(base, seed)["minutes"]
        path.write_text(json.dumps(note), encoding="utf-8")
        return note

    def train(self, entry: Entry, seed: int, note: dict[str, Any]) -> int:
        """Run or resume the command; its exit code. Code and minutes go into the notes."""
        run = run_folder(entry, seed, self.root)
        words = [*entry.words, "--seed", str(seed), "--logdir", str(run)]
        for base in [one for one in self.entries if one.name == entry.base]:
            there = str(run_folder(base, seed, self.root))
            words = [word.replace("{run}", there) for word in words]  # str.format fails on JSON
        if (run / "config.json").exists():
            if entry.kind == "peer":
                shutil.rmtree(run)  # a peer starts again; it takes minutes
            else:
                words.append("--resume")
        started = time.monotonic()
        with run.with_name(f"{run.name}.log").open("a", encoding="utf-8") as log:
            code = self.call(words, log)
        note["minutes"] += (time.monotonic() - started) / 60
        note |= {"trained": code == 0, "code": 0 if self.stopping else code}
        note_path(entry, seed, self.root).write_text(json.dumps(note), encoding="utf-8")
        return code

    def evaluate(self, entry: Entry, run: Path) -> dict[str, Any]:
        """The scores of a trained run, its parameters and steps; empty if the evaluation failed."""
        if entry.kind in ("peer", "adapt", "instruct"):  # they evaluate themselves
            return json.loads((run / "result.json").read_text(encoding="utf-8"))
        if entry.kind == "tasks":
            scores = multitask.results(run)
        elif entry.kind == "glam":
            scores = {"success": wb.run.read_jsonl(run / "metrics.jsonl")[-1]["judged/success"]}
        else:
            scores = self.play(entry, run)
            if not scores:
                return {}
        config, tensors = wb.run.read_config(run), wb.run.Checkpoint(run).weights("agent").values()
        steps = config["steps"] * config.get("repeat", 1)
        return {"parameters": sum(x.numel() for x in tensors), "steps": steps, **scores}

    def play(self, entry: Entry, run: Path) -> dict[str, Any]:
        """Scores and number of parameters, from the last line of `recipes/evaluate.py`."""
        words = ["recipes/evaluate.py", str(run), "--episodes", str(EPISODES), "--json"]
        words += [*["--mode"] * entry.mode, "--video", "0"]
        path = run.with_name(f"{run.name}.evaluation.log")
        with path.open("w", encoding="utf-8") as log:
            code = self.call(words, log)
        if code:
            return {}
        played = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        parameters = played.pop("parameters")
        # With --mode, the scores of sampled actions are nested. Published scores are of those.
        scores = {"score": played.pop("sampled", played)} | ({"mode": played} if entry.mode else {})
        return {"parameters": parameters, **scores}

    def call(self, words: list[str], log: Any) -> int:
        """Run a Python command with one thread and no shape checks, in a session of its own."""
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
