"""The events of a run of every recipe: recorded once, compared after every change."""
