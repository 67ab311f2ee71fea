"""What many tests of the index begin with: a wall clock that stands, a ledger with a listed owner, and a catalogue beside it."""

import pytest

from pipeline.catalogue import Catalogue
from tests.support.index import HandClock, adopted, open_index


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
async def ledger(tmp_path, clock):
    async with open_index(tmp_path, clock) as ledger:
        await adopted(ledger)
        yield ledger


@pytest.fixture
def catalogue(tmp_path):
    catalogue = Catalogue(tmp_path / "index.db")
    yield catalogue
    catalogue.close()
