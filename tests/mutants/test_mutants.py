"""Each deliberate fault breaks a promise that is known by name."""

import pytest

from mutants import MUTANTS, table
from mutants.subjects import CHECKS, named
from worldblocks.testing import BrokenPromise
from worldblocks.testing.promise import searching

CAUGHT = table.load()


def known(mutant):
    """The test of one mutant, by the name of its check."""
    return pytest.param(mutant, id=f"{mutant.name}-{named(mutant.kind)}")


@pytest.mark.parametrize("mutant", list(map(known, MUTANTS)))
def test_mutant_is_caught(mutant):
    promise = CAUGHT[mutant.name][0]
    with searching(shrink=False), pytest.raises(BrokenPromise) as error:
        CHECKS[mutant.kind](mutant.subject, only=promise)
    assert error.value.names == (promise,)


def test_there_are_enough_of_each_kind():
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS}) >= 40
    assert {mutant.kind for mutant in MUTANTS} == set(CHECKS)


def test_the_page_is_the_last_run():
    assert sorted(CAUGHT) == sorted(mutant.name for mutant in MUTANTS), "python tests/mutants"
    assert table.PAGE.read_text(encoding="utf-8") == table.page(CAUGHT), "python tests/mutants"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", list(map(known, MUTANTS)))
def test_mutant_breaks_what_the_table_says(mutant):
    """All of it; with other examples, which depend on the code that is loaded, one may be added."""
    promises = CAUGHT[mutant.name]
    with searching(shrink=False), pytest.raises(BrokenPromise) as error:
        CHECKS[mutant.kind](mutant.subject, only=promises)
    assert error.value.names == tuple(promises)
