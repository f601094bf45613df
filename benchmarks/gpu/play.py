"""One run of a recipe until the clock says stop, and its curve over the published one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu.runner import write
from benchmarks.provenance import provenance

TASK = "walker_walk"
PUBLISHED = ROOT / "docs" / "results" / "published" / "dmc_proprio.json"
RESERVE = 30.0  # seconds of the command that are not the run's: saving, killing, drawing
BETWEEN = 60.0  # seconds between two pictures: whatever ends early leaves the last one
FIGURES = ("episodes.jsonl", "metrics.jsonl", "timing.jsonl")
QUICK = ("--repeat", "100", "--steps", "96", "--log-every", "32")  # episodes of ten actions


def main(out: Path, *, device: str, quick: bool, minutes: float) -> int:
    """Run, stop by the clock, and write what there is; 0 if there is a curve."""
    if 60 * minutes <= RESERVE:
        raise ValueError(
            f"--minutes {minutes:g} is not more than the {RESERVE:.0f} seconds that saving and "
            f"drawing may take; a minute is the least that shows anything"
        )
    out.mkdir(parents=True, exist_ok=True)
    preset = ["smoke", *QUICK] if quick else ["proprio"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [*preset, "--task", TASK, "--device", device, "--logdir", str(run)]
        command = [sys.executable, str(ROOT / "recipes" / "dreamerv3_dmc.py"), *words]
        data = {"_meta": {**provenance(), "device": device, "quick": quick, "preset": preset}}
        write(out / "run.json", data)
        ended = Ended(command, out / "run.log", 60 * minutes - RESERVE)
        for seconds in ended:
            write(out / "run.json", {**data, "seconds": round(seconds), **report(run, out)})
        data |= {"seconds": round(ended.seconds), "problem": ended.problem, **report(run, out)}
        write(out / "run.json", data)
    print(json.dumps({key: data[key] for key in ("seconds", "problem", "last")}))
    print(f"written: {out / 'run.json'}")
    return int(bool(data["problem"]) or not data["last"])


class Ended:
    """A command that is asked to end (SIGTERM) when its time is over, and killed if it does not.

    Iteration gives the seconds that have passed, now and then while it runs.
    """

    def __init__(
        self, command: Sequence[str], log: Path, limit: float, *, between: float = BETWEEN
    ) -> None:
        self.command, self.log, self.limit, self.between = command, log, limit, between
        self.seconds, self.problem = 0.0, ""

    def __iter__(self) -> Any:
        start = time.monotonic()
        # Nothing is rendered: a machine without OpenGL must not be asked for it.
        environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
        with self.log.open("w") as log:
            process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
            try:
                while (left := start + self.limit - time.monotonic()) > 0:
                    try:
                        process.wait(min(self.between, left))
                        break
                    except subprocess.TimeoutExpired:
                        yield time.monotonic() - start
                self.end(process)
            finally:
                process.kill()
                process.wait()
                self.seconds = time.monotonic() - start
        if self.problem:
            last = self.log.read_text(errors="replace").strip().splitlines()[-12:]
            self.problem = "\n".join([self.problem, *last])

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Ask, wait, and say what went wrong."""
        if process.poll() is None:
            process.terminate()
        try:
            code = process.wait(RESERVE / 2)
        except subprocess.TimeoutExpired:
            self.problem = f"did not end within {RESERVE / 2:.0f} seconds of being asked"
            return
        if code not in (0, 128 + signal.SIGTERM):
            self.problem = f"exit code {code}"


def report(run: Path, out: Path) -> dict[str, Any]:
    """The curve as a picture, and with the published one as figures; the run's own figures."""
    from worldblocks.evaluate.published import plot_published, read_published
    from worldblocks.run.log.sinks import read_jsonl

    last: dict[str, Any] = {}
    found: dict[str, Any] = {"last": last, "curve": []}
    for name in FIGURES:
        if (run / name).exists():
            shutil.copy(run / name, out / name)
            lines = list(read_jsonl(run / name))
            last |= {name.partition(".")[0]: lines[-1]} if lines else {}
    if "episodes" not in last:
        return found
    published = read_published(PUBLISHED, f"dmc_{TASK}")
    plot_published([run], out / "run.png", published=published, title=TASK)
    found["source"] = published.source
    found["curve"] = beside(run, published)
    return found


def beside(run: Path, published: Any) -> list[dict[str, Any]]:
    """At each environment step of the published curve our score, and the published mean and std."""
    from worldblocks.evaluate.published import score_curves

    steps, scores = score_curves([run], published.width)
    rows = zip(published.steps, published.mean, published.std, strict=True)
    theirs = {round(step): (mean, std) for step, mean, std in rows}
    return [
        {
            "environment steps": round(step),
            "score": round(float(score), 1),
            "published": theirs.get(round(step)),
        }
        for step, score in zip(steps, scores[0], strict=True)
    ]
