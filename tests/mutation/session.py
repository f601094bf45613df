"""A pytest that collects once, and then runs tests in one fork for each mutant."""

import contextlib
import gc
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

from mutation import swap
from mutation.forks import Child, Outcome
from mutation.mutate import Mutant, parsed
from mutation.parts import ROOT, Part

LONGEST = 3.0  # seconds; tests that take longer are left out
EXAMPLES = 20  # of a hypothesis test, the same ones each time

Coverage = dict[str, Any]  # seconds of each test, and the tests of each line of each file


class Session:
    """A plugin whose test loop is `work(session)`."""

    def __init__(self, part: Part, work: Callable[["Session"], None]) -> None:
        self.part, self.work = part, work
        self.items: dict[str, pytest.Item] = {}

    def run(self) -> int:
        """Collect the tests of the part, then work."""
        os.environ["CI"] = "1"  # hypothesis draws the same examples each time
        options = ["--quiet", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        return int(pytest.main([*options, f"--rootdir={ROOT}", *self.part.paths()], plugins=[self]))

    def pytest_configure(self, config: pytest.Config) -> None:
        import hypothesis  # pytest's plugin of that name has to be first

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation",
            hypothesis.settings.get_profile("ci"),
            max_examples=EXAMPLES,
            phases=phases,
            database=None,
        )
        hypothesis.settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Not those that compile (they ask whether a graph is captured, and take seconds)."""
        if session.testsfailed:
            raise session.Interrupted("errors during collection")
        for item in session.items:
            compiles = "same_when_compiled" in getattr(item, "fixturenames", ())
            if not compiles and not item.get_closest_marker("slow"):
                self.items[item.nodeid] = item
        session.config._tmp_path_factory.getbasetemp()  # one folder for all forks
        self.work(self)
        return True

    def failed(self, names: list[str]) -> str:
        """The first of some tests that fails here; empty if none does."""
        items = [self.items[name] for name in names]
        for item, after in zip(items, [*items[1:], None], strict=True):
            if any(report.failed for report in runtestprotocol(item, nextitem=after, log=False)):
                return item.nodeid
        return ""

    def measure(self) -> Coverage:
        """Run every test once, in a fork, and say how long it took and which lines it ran."""
        found = Child(self._measure, expected=600).result(wait=True)
        if isinstance(found, str):
            raise RuntimeError(f"without a mutant: {found}")
        return found

    def check(self, cover: Coverage) -> None:
        """Run every test in a fork as those of the mutants are: all must pass there."""
        quick = [name for name in self.items if cover["seconds"][name] < LONGEST]
        found = Child(lambda: self.failed(quick), expected=600).result(wait=True)
        if found:
            raise RuntimeError(f"without a mutant: {found}")

    def _measure(self) -> Coverage:
        files = [str(path) for path in self.part.files()]
        tracer = coverage.Coverage(data_file=None, include=files, config_file=False)
        seconds, before_all = {}, set(sys.modules)
        tracer.start()
        for name in self.items:
            tracer.switch_context(name)
            before = time.process_time()
            if self.failed([name]):
                raise RuntimeError(f"fails without a mutant: {name}")
            seconds[name] = time.process_time() - before
        tracer.stop()
        data = tracer.get_data()
        lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
        return {"seconds": seconds, "lines": lines, "modules": [*sys.modules.keys() - before_all]}

    def warm(self, cover: Coverage) -> None:
        """Load here what the tests would load in every fork: half of torch comes on first use."""
        for name in sorted(cover["modules"]):
            if name.startswith(("torch.", "hypothesis.")):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        swap.functions()
        gc.freeze()  # the forks share these pages

    def tests(self, mutant: Mutant, cover: Coverage) -> list[str]:
        """The tests that run the changed lines, the quick ones first."""
        lines, seconds = cover["lines"].get(str(mutant.path), {}), cover["seconds"]
        found = {name for line in mutant.lines for name in lines.get(str(line), ())}
        quick = [name for name in found if seconds.get(name, LONGEST) < LONGEST]
        return sorted(quick, key=lambda name: (seconds[name], name))

    def start(self, mutant: Mutant, tests: list[str], cover: Coverage) -> Child:
        """A fork in which the tests run on the mutant."""
        before, after = mutant.path.read_text("utf-8"), mutant.source()
        expected = sum(cover["seconds"][name] for name in tests)

        def work() -> str:
            if not swap.put(str(mutant.path), before, after):
                return "misplaced"
            return self.failed(tests)

        return Child(work, expected)


def outcome(found: Any, seconds: float) -> Outcome:
    """Of what a fork has sent."""
    if found == "misplaced":
        raise RuntimeError("the mutant is no function of this process")
    if found in ("crashed", "endless"):
        return Outcome(found, "", seconds)
    return Outcome("killed" if found else "survived", found, seconds)


def mutants(part: Part) -> list[Mutant]:
    """All of a part."""
    return [mutant for path in part.files() for mutant in parsed(path).mutants]
