"""Taking over images that another tool left elsewhere in the store's account."""

import re
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from pipeline.errors import IllegalStep, UserError
from pipeline.ledger.taking_over import Newcomer
from pipeline.model import Stored
from pipeline.orders.kinds import Adopt, Reply
from pipeline.stages import Parts, Stages

_OURS = re.compile(r"[a-z0-9-]+/characters/([^/]+)/images/\1_image_[1-9]\d*")


@runtime_checkable
class Gathers(Protocol):
    """A store that can tell what stands anywhere in its account."""

    def elsewhere(self, prefix: str) -> AsyncIterator[Stored]:
        """Go through all whose public id begins with `prefix`.

        Raises:
            StoreUnavailable: wait and try again.
        """
        ...


async def adopt(order: Adopt, parts: Parts, stages: Stages) -> Reply:
    """Give what stands under a prefix the character's next numbers, oldest first; the public ids stay as they are."""
    if not isinstance(parts.store, Gathers):
        raise UserError(
            "the local store holds only its own folder, so there is nothing to adopt from elsewhere; to bring files in, "
            "put them at IMAGES/OWNER/characters/NAME/images/NAME_image_1.png and so on before that owner's first job"
        )
    found = _meant([stored async for stored in parts.store.elsewhere(order.prefix)], order.prefix)
    strangers = [stored for stored in found if not _OURS.fullmatch(stored.public_id)]
    if not found:
        raise UserError(f'the store holds no image under "{order.prefix}"')
    await _list_folder(order, parts, stages)
    newcomer = Newcomer(order.character, order.owner, order.default_owner)
    numbers = await parts.ledger.take_over(newcomer, sorted(strangers, key=_age))
    known, ours = len(strangers) - len(numbers), len(found) - len(strangers)
    lines = [f"{len(numbers)} {'image is' if len(numbers) == 1 else 'images are'} adopted{_range(numbers)}"]
    if known:
        lines.append(f"{known} were in the index already")
    if ours:
        lines.append(
            f"{ours} have names of this program's own kind: they are adopted when their owner's folder is listed"
        )
    return Reply(
        lines=tuple(lines), data={"characterId": order.character, "numbers": numbers, "known": known, "left": ours}
    )


async def _list_folder(order: Adopt, parts: Parts, stages: Stages) -> None:
    """Numbers may be given out only after the owner's own folder was listed; the adoption stage may be quicker."""
    owner = parts.ledger.owner_of(order.character) or order.owner or order.default_owner
    if parts.ledger.has_folder(owner):
        return
    try:
        await stages.adoption.adopt(owner)
    except IllegalStep:
        if not parts.ledger.has_folder(owner):
            raise


def _meant(found: list[Stored], prefix: str) -> list[Stored]:
    """Read a prefix as a folder; where there is none of that name, as the beginning of names."""
    folder = f"{prefix.rstrip('/')}/"
    inside = [stored for stored in found if stored.public_id.startswith(folder)]
    return inside or found


def _age(stored: Stored) -> tuple[int, str]:
    return stored.created_at or 0, stored.public_id


def _range(numbers: list[int]) -> str:
    if not numbers:
        return ""
    return f" as number {numbers[0]}" if len(numbers) == 1 else f" as numbers {numbers[0]} to {numbers[-1]}"
