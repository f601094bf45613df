"""What a look at a run finds: sections of findings, each with a light."""

from typing import Literal, NamedTuple

Light = Literal["green", "amber", "red", "grey"]
WORST: tuple[Light, ...] = ("red", "amber", "green")


class Finding(NamedTuple):
    """One number and what it means.

    `light` is grey where nothing can be judged: `number` then says why. `symptom` is a key of
    `causes.SYMPTOMS`, or empty where all is well.
    """

    name: str
    light: Light
    number: str
    rule: str
    symptom: str = ""


class Figure(NamedTuple):
    """A picture (SVG or an HTML table) with its caption; a wide one takes the whole width."""

    picture: str
    caption: str
    wide: bool = False


class Section(NamedTuple):
    """One question about a run."""

    key: str
    title: str
    question: str
    findings: list[Finding]
    figures: list[Figure]

    @property
    def light(self) -> Light:
        """The worst light of the findings that could be judged; grey if none could."""
        lights = {finding.light for finding in self.findings}
        for light in WORST:
            if light in lights:
                return light
        return "grey"


def unknown(name: str, reason: str, rule: str) -> Finding:
    """A finding that cannot be judged."""
    return Finding(name, "grey", reason, rule)


def graded(value: float, green: float, amber: float) -> Light:
    """Green up to one limit, amber up to the next, red beyond and where it is not a number.

    >>> graded(0.2, 0.5, 1.0), graded(0.7, 0.5, 1.0), graded(float("nan"), 0.5, 1.0)
    ('green', 'amber', 'red')
    """
    return "green" if value <= green else "amber" if value <= amber else "red"
