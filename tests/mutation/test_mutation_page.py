"""The page of mutants is the last run's, and explains what survived."""

import pytest

from mutation import page


def test_the_page_is_the_last_run():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.load()), "--page"


def test_every_survivor_is_explained():
    assert page.unexplained(page.load()) == []


def test_no_reason_is_left_over():
    survivors = {tuple(one) for part in page.load()["parts"].values() for one in part["survivors"]}
    assert set(page.reasons()) <= survivors


def test_most_mutants_are_caught():
    for name, part in page.load()["parts"].items():
        caught = sum(part["states"].get(state, 0) for state in ("killed", "crashed", "endless"))
        assert caught >= 0.85 * part["drawn"], name


def test_the_interval_of_a_share():
    """Wilson's of 9 in 10: Brown, Cai & DasGupta 2001, by hand."""
    assert page.wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
