"""Findings about a run, grouped in sections; each finding has a traffic light."""

from typing import Literal, NamedTuple

Light = Literal["green", "amber", "red", "grey"]
WORST: tuple[Light, ...] = ("red", "amber", "green")


class Finding(NamedTuple):
    """One number and its verdict.

    `light` is grey if there is nothing to judge; `number` then gives the reason. `symptom` is a key
    of `causes.SYMPTOMS`, empty for green and grey lights.
    """

    name: str
    light: Light
    number: str
    rule: str
    symptom: str = ""


class Figure(NamedTuple):
    """A picture (SVG or an HTML table) with its caption; `wide` takes the full page width."""

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
        """The worst light of the judged findings; grey if none was judged."""
        lights = {finding.light for finding in self.findings}
        for light in WORST:
            if light in lights:
                return light
        return "grey"


def unknown(name: str, reason: str, rule: str) -> Finding:
    """A finding that cannot be judged."""
    return Finding(name, "grey", reason, rule)


def judged(name: str, light: Light, number: str, rule: str, symptom: str) -> Finding:
    """A finding that has `symptom` only if its light is not green."""
    return Finding(name, light, number, rule, "" if light == "green" else symptom)


def graded(value: float, green: float, amber: float) -> Light:
    """Green up to `green`, amber up to `amber`, red above and for NaN.

    >>> graded(0.2, 0.5, 1.0), graded(0.7, 0.5, 1.0), graded(float("nan"), 0.5, 1.0)
    ('green', 'amber', 'red')
    """
    return "green" if value <= green else "amber" if value <= amber else "red"
