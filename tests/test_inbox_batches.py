"""Many files at once: in batches, of which the next is drafted while one is taken."""

import errno
import os

import pytest
import trio

from pipeline.errors import IndexTrouble
from pipeline.inbox.drafting import MOST_FILES
from tests.support.door import open_stand, spec

MORE = 20  # files that do not fit into the first batch


def put_many(stand):
    for n in range(MOST_FILES + MORE):
        os.utime(stand.put(f"{n:04}.yaml", spec(f"p{n:04}")), (1, 1))


def all_prompts():
    return [f"p{n:04}" for n in range(MOST_FILES + MORE)]


def registered(accept):
    """Put `accept(ledger, jobs)` in the place of the ledger's own."""

    class Register:
        def __init__(self, ledger):
            self._ledger = ledger
            self.known_among = ledger.known_among

        async def accept(self, jobs):
            return await accept(self._ledger, jobs)

    return Register


async def test_many_files_go_in_batches_and_keep_their_order(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        put_many(stand)
        assert (await stand.inbox.scan()).taken == MOST_FILES + MORE
        assert stand.prompts() == all_prompts()
        assert stand.accepted == stand.ids()


async def test_a_batch_ends_with_large_jobs_so_that_memory_stays_bounded(autojump_clock, tmp_path):
    sizes = []

    async def accept(ledger, jobs):
        sizes.append(len(jobs))
        return await ledger.accept(jobs)

    async with open_stand(tmp_path, register=registered(accept)) as stand:
        for n in range(5):
            stand.put(f"{n}.yaml", spec(quantity=9_000))
        assert (await stand.inbox.scan()).taken == 5
    assert sizes == [3, 2]


async def test_the_next_batch_is_drafted_while_one_is_committed(autojump_clock, tmp_path):
    drafts = []
    second = trio.Event()

    async def run(call, *args):
        if call.__name__ == "draft":
            drafts.append(call)
            if len(drafts) == 2:
                second.set()
        return call(*args)

    async def accept(ledger, jobs):
        with trio.fail_after(9):
            await second.wait()
        return await ledger.accept(jobs)

    async with open_stand(tmp_path, run_sync=run, register=registered(accept)) as stand:
        put_many(stand)
        assert (await stand.inbox.scan()).taken == MOST_FILES + MORE
        assert stand.prompts() == all_prompts()


@pytest.mark.parametrize("parts", [("index",), ("folder",), ("index", "folder")], ids=" and ".join)
async def test_trouble_while_one_batch_is_taken_and_the_next_drafted_loses_nothing(autojump_clock, tmp_path, parts):
    ill = set(parts)
    drafts = []

    async def run(call, *args):
        if call.__name__ == "draft":
            drafts.append(call)
            if "folder" in ill and len(drafts) == 2:
                raise OSError(errno.EIO, "the disk is broken", "jobs")
        return call(*args)

    async def accept(ledger, jobs):
        if "index" in ill:
            raise IndexTrouble("the index is full")
        return await ledger.accept(jobs)

    async with open_stand(tmp_path, run_sync=run, register=registered(accept)) as stand:
        put_many(stand)
        result = await stand.inbox.scan()
        assert result.trouble == ("the index is full" if "index" in ill else "jobs: the disk is broken")
        assert result.taken == (0 if "index" in ill else MOST_FILES)
        ill.clear()
        assert (await stand.inbox.scan()).taken == MOST_FILES + MORE - result.taken
        assert sorted(stand.prompts()) == all_prompts()
