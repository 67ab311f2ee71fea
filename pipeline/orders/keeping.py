"""Favourites, and images that are deleted for good."""

import trio

from pipeline.errors import IndexTrouble, StoreError
from pipeline.ledger import Ledger
from pipeline.lifecycle import Removed
from pipeline.model import Image, State
from pipeline.orders.kinds import Favorite, Remove, Reply
from pipeline.orders.named import known_images, what_of
from pipeline.stages import Parts

STORE_SECONDS = 60.0  # a store that takes longer to delete one image is down


async def favorite(order: Favorite, ledger: Ledger) -> Reply:
    """Set or clear marks."""
    images = known_images(order.character, order.numbers, ledger)
    for image in images:
        await ledger.favorite(image, chosen=order.chosen)
    verb = "is a favorite" if order.chosen else "is no favorite"
    numbers = [image.number for image in images]
    data = {"characterId": order.character, "numbers": numbers, "favorite": order.chosen}
    return Reply(lines=tuple(f"{image.filename} {verb}" for image in images), data=data)


async def remove(order: Remove, parts: Parts) -> Reply:
    """Delete images, one after the other: first at the store, then in the index.

    A crash in between leaves a row that still tells where to delete; the other way round the image would be left at the
    store and nobody would know.
    """
    lines: list[str] = []
    gone: list[int] = []
    failed = False
    for image in known_images(order.character, order.numbers, parts.ledger):
        trouble = await _delete(image, parts)
        if trouble is None:
            gone.append(image.number)
            lines.append(f"{image.filename} is removed")
        else:
            failed = True
            lines.append(f"{image.filename}: {trouble}")
    return Reply(
        exit_code=1 if failed else 0, lines=tuple(lines), data={"characterId": order.character, "removed": gone}
    )


async def _delete(image: Image, parts: Parts) -> str | None:
    """Delete one image; return why not."""
    if image.state is not State.REMOVED:
        if image.state not in Removed.allowed:
            return f"is {what_of(image)}: only images, placeholders and failed ones that stand still can be removed"
        trouble = await _delete_at_store(image, parts)
        if trouble is not None:
            return trouble
        try:
            await parts.ledger.record(image, Removed())
        except IndexTrouble as error:
            return f"is deleted at the store, but the index could not take note ({error}); remove it once more then"
    for name in await parts.spool.kept():
        if name.partition("-")[0] == str(image.row):
            await parts.spool.discard(name)
    return None


async def _delete_at_store(image: Image, parts: Parts) -> str | None:
    if image.stored is None:
        return None  # what stands there, if anything, is not ours
    try:
        with trio.fail_after(STORE_SECONDS):
            await parts.store.remove(image.stored)
    except StoreError as error:
        return f"not removed: {error}"
    except trio.TooSlowError:
        return f"not removed: the store gave no answer within {STORE_SECONDS:g} s; try again later"
    return None
