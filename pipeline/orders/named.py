"""What an order names, as the ledger knows it; what is not there is refused before anything is done."""

from collections.abc import Iterable

from pipeline.errors import NoSuchCharacter, NoSuchImage, NoSuchJob, UserError
from pipeline.ledger import Ledger
from pipeline.lifecycle import status_of
from pipeline.model import Image


def known_job(job_id: str, ledger: Ledger) -> str:
    """Return the id of a job that was accepted.

    Raises:
        NoSuchJob: none was under this id.
    """
    if not ledger.knows(job_id):
        raise NoSuchJob(job_id)
    return job_id


def known_character(character_id: str, ledger: Ledger) -> str:
    """Return the id of a character that some job, or the store, has named.

    Raises:
        NoSuchCharacter: nobody has.
    """
    if ledger.owner_of(character_id) is None:
        raise NoSuchCharacter(character_id)
    return character_id


def jobs_labelled(label: str, ledger: Ledger) -> list[str]:
    """Return the jobs with a label, in arrival order.

    Raises:
        UserError: there is none.
    """
    jobs = ledger.jobs_labelled(label)
    if not jobs:
        raise UserError(f'no job has the label "{label}"')
    return jobs


def known_images(character: str, numbers: Iterable[int], ledger: Ledger) -> list[Image]:
    """Read a character's images by their numbers, each once.

    Raises:
        NoSuchCharacter, NoSuchImage: one is not there.
    """
    known_character(character, ledger)
    images = []
    for number in dict.fromkeys(numbers):
        image = ledger.image_by_number(character, number)
        if image is None:
            raise NoSuchImage(character, number)
        images.append(image)
    return images


def what_of(image: Image) -> str:
    """Say in the words of the outside what has become of an image that an order cannot have."""
    return "being made again" if image.standing is not None else status_of(image.state, None)
