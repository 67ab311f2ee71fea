"""What lies in a local store's folder, for tests of that store."""

from pathlib import Path

from tests.support.pictures import plain

FIRST, SECOND = plain(shade=1), plain(shade=2)
PLACE = "alice/characters/mary/images/mary_image_5"


def is_there(stored):
    return Path(stored.path).exists()


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


async def listed(store, owner_slug="alice"):
    return [asset async for asset in store.listing(owner_slug)]
