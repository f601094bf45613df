"""A command that measures, writes JSON, and makes a page of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure, page, record
from benchmarks.commands.settings import Settings, parsed
from benchmarks.jobs import ROOT
from benchmarks.tables import Table, aligned, markdown


class Section(NamedTuple):
    """A part of a page: text in Markdown, then tables."""

    title: str
    text: str
    tables: list[Table]


@dataclass(frozen=True, kw_only=True)
class Reported(Settings):
    out: Path = Path()  # where the figures go; by default benchmarks/NAME.json
    page: bool = False  # measure nothing: write the documentation page from the figures
    allow_dirty: bool = False  # with --page: though the figures are of files that no commit has
    list: bool = False  # measure nothing: say what would be measured

    def planned(self) -> Sequence[str]:
        """What `--list` says, a line each."""
        return []


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is made of.

    Attributes:
        name: of the command, the figures and the page.
        title: of the page.
        about: opens the page; the first paragraph also describes the command.
        options: of the command.
        figures: entries from the options. It may add to the second argument who did not take part,
            and why.
        sections: of the page, from the entries.
    """

    name: str
    title: str
    about: str
    options: type[Reported]
    figures: Callable[[Any, dict[str, str]], dict[str, Any]]
    sections: Callable[[Mapping[str, Any]], list[Section]]

    @property
    def page(self) -> Path:
        """Where its page is."""
        return ROOT / "docs" / "performance" / f"{self.name}.md"

    @property
    def out(self) -> Path:
        """Where its figures go unless `--out` says otherwise."""
        return ROOT / "benchmarks" / f"{self.name}.json"

    def __call__(self, words: Sequence[str]) -> int:
        """Measure, write the page, or say what would be measured."""
        about = self.about.partition("\n\n")[0]
        options: Any = parsed(self.options, self.name, about, words)
        out = self.out if options.out == Path() else options.out
        if options.list:
            print("\n".join(options.planned()))
            return 0
        if options.page:
            data = record.read(out, f"python -m benchmarks {self.name}")
            self.write_page(record.published(data, out.name, allow_dirty=options.allow_dirty))
            print(f"written: {self.page}")
            return 0
        meta = measure.origin(options, [self.name, *words])
        data = {"_meta": meta, **self.figures(options, meta["skipped"])}
        for name, why in meta["skipped"].items():
            meta["skipped"][name] = measure.without_folders(why)
        record.write(out, data)
        for section in self.sections(data):
            for table in section.tables:
                print(f"\n{aligned(table)}", flush=True)
        print(f"written: {out}")
        return 0

    def render(self, data: Mapping[str, Any]) -> str:
        """The page of a set of figures."""
        made = (
            f"*This page is generated from `benchmarks/{self.name}.json` by "
            f"`python -m benchmarks {self.name} --page`.*"
        )
        parts = [f"# {self.title}", made, self.about, page.origin(data)]
        for section in self.sections(data):
            parts += [f"## {section.title}", section.text]
            for table in section.tables:
                parts += [f"**{table.title[0].upper()}{table.title[1:]}**", markdown(table)]
        return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"

    def write_page(self, data: Mapping[str, Any]) -> None:
        """Write it."""
        self.page.parent.mkdir(parents=True, exist_ok=True)
        self.page.write_text(self.render(data), encoding="utf-8")
