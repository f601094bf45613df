"""The sections as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from worldblocks.diagnose.finding import Finding, Section
from worldblocks.diagnose.page.causes import SYMPTOMS, Symptom
from worldblocks.diagnose.page.style import CSS
from worldblocks.run.saves.durable import replace_text

WORDS = {"green": "good", "amber": "check", "red": "bad", "grey": "not judged"}
# Each section builds on those before it: fix the first red one first.
ORDER = ("gradients", "kl", "categories", "units", "prediction", "reward", "continue", "value")
ORDER += ("scale", "entropy", "history")


def write_page(
    path: Path | str, name: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Write sections as one page with inline styles and figures, without scripts.

    Args:
        path: the file; its folder is created.
        name: the heading.
        facts: names and short descriptions of the run and the held-out rows.
        sections: as returned by `examine`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, page(name, facts, sections))
    return path


def page(name: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """The page as text."""
    known = "".join(f"<li>{escape(k)} <b>{escape(v)}</b></li>" for k, v in facts.items())
    links = "".join(
        f'<a class="{s.light}" href="#{s.key}">{_lamp(s.light)}{escape(s.title)}</a>'
        for s in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(name)}: diagnosis</title><style>{CSS}</style></head><body><main>"
        f'<h1>{escape(name)}</h1><p class="soft">Is this world model any good?</p>'
        f'<ul class="facts">{known}</ul><p class="verdict">{escape(summary(sections))}</p>'
        f"<nav>{links}</nav>{''.join(map(_section, sections))}"
        "<footer>All numbers except the training curves are from held-out episodes that the agent "
        "was not trained on. A disc is good, a triangle needs a check, a square is bad, and a ring "
        "is not judged.</footer></main></body></html>\n"
    )


def summary(sections: Sequence[Section]) -> str:
    """The number of lights of each colour, and the section to begin with."""
    lights = [finding.light for section in sections for finding in section.findings]
    counts = [f"{lights.count(x)} {x}" for x in ("red", "amber", "green", "grey") if x in lights]
    found = {section.key: section for section in sections}
    for light in ("red", "amber"):
        for key in ORDER:
            if key in found and found[key].light == light:
                return f"{', '.join(counts)}. Begin with: {found[key].title}."
    return f"{', '.join(counts)}."


def verdicts(sections: Sequence[Section]) -> list[str]:
    """One line of text per finding."""
    return [
        f"{finding.light.upper():5}  {section.title}, {finding.name}: {finding.number}"
        for section in sections
        for finding in section.findings
    ]


def _section(section: Section) -> str:
    figures = "".join(
        f'<figure{" class=wide" * figure.wide}><div class="scroll">{figure.picture}</div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in section.figures
    )
    figures = f'<div class="figures">{figures}</div>' if figures else ""
    return (
        f'<section id="{section.key}" class="{section.light}">'
        f"<h2>{_lamp(section.light)}{escape(section.title)}</h2>"
        f'<p class="question">{escape(section.question)}</p>'
        f"{''.join(map(_finding, section.findings))}{figures}{_causes(section)}</section>"
    )


def _finding(finding: Finding) -> str:
    return (
        f'<div class="finding {finding.light}">{_lamp(finding.light)}<b>{escape(finding.name)}</b>'
        f'<div><span class="number">{escape(finding.number)}</span>'
        f'<span class="rule">{escape(finding.rule)}</span></div></div>'
    )


def _causes(section: Section) -> str:
    """The known causes: of the symptoms found here first, and unfolded if there are any."""
    seen = {f.symptom: f.light for f in section.findings if f.symptom}
    symptoms = SYMPTOMS[section.key]
    ordered = sorted(symptoms, key=lambda key: key not in seen)
    parts = "".join(_symptom(symptoms[key], seen.get(key)) for key in ordered)
    title = "Symptoms, known causes, and what to try"
    return f"<details{' open' * bool(seen)}><summary>{title}</summary>{parts}</details>"


def _symptom(symptom: Symptom, light: str | None) -> str:
    mark = f' <em class="{light}">found here</em>' if light else ""
    causes = "".join(
        f"<li>{escape(cause)} <span>{escape(remedy)}</span></li>"
        for cause, remedy in symptom.causes
    )
    return f"<h3>{escape(symptom.sign)}{mark}</h3><ol>{causes}</ol>"


def _lamp(light: str) -> str:
    return f'<i class="lamp {light}" role="img" aria-label="{WORDS[light]}"></i>'
