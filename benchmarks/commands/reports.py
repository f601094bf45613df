"""The reports, by the name of their command, their figures and their page."""

from benchmarks.commands import fit, fit_tables, floor, floor_tables, scaling, scaling_tables
from benchmarks.commands.report import Report

SCALING = Report(
    name="scaling",
    title="Scaling",
    about=scaling_tables.ABOUT,
    options=scaling.Scaling,
    figures=scaling.figures,
    sections=scaling_tables.sections,
)
FLOOR = Report(
    name="floor",
    title="The floor",
    about=floor_tables.ABOUT,
    options=floor.Floor,
    figures=floor.figures,
    sections=floor_tables.sections,
)
FIT = Report(
    name="fit",
    title="Will it fit",
    about=fit_tables.ABOUT,
    options=fit.Fit,
    figures=fit.figures,
    sections=fit_tables.sections,
)
