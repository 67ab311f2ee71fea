"""Rows of the index to Images and back."""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pipeline import naming
from pipeline.lifecycle import status_of
from pipeline.model import Artifact, Fault, Image, Job, Lora, OnFailure, Recipe, State, Stored, Submission

Row = tuple[Any, ...]

KEPT = 4 << 20  # characters of recipes and labels that a Reader keeps parsed
OVERHEAD = 4 << 10  # characters that a small recipe counts for, parsed

# A recipe may hold whole pictures in its `params`; such a one is read once for its job, by RECIPE.
SELECT_IMAGE = """
SELECT images.id, jobs.id, characters.id, characters.name, owners.id, images.number, jobs.first_number,
    characters.slug, images.public_id, prompts.text, images.seed, jobs.seq,
    iif(length(jobs.recipe) <= 4096, jobs.recipe, NULL), jobs.labels, jobs.on_failure,
    jobs.quantity, images.state, images.standing, images.backend, images.ticket, images.attempts, images.failures,
    images.doubtful, images.gpu_seconds, images.used_embedding, images.created_at, images.fault_code,
    images.fault_message, images.remote_id, images.base_url, images.accepted_at, images.deadline, images.expires_at,
    images.spool_file, images.spool_md5, images.spool_bytes, images.spool_width, images.spool_height,
    images.spool_format, images.spool_pixels, images.spool_color,
    images.url, images.version, images.md5, images.bytes, images.width, images.height, images.format,
    images.path, images.store_date, images.delivery
FROM images
JOIN characters ON characters.row = images.character
JOIN owners ON owners.row = characters.owner
LEFT JOIN jobs ON jobs.seq = images.job
LEFT JOIN prompts ON prompts.id = images.prompt
"""
RECIPE = "SELECT recipe FROM jobs WHERE seq = ?"
OWNER = "(SELECT owner FROM characters WHERE characters.row = images.character)"  # of a row that was just updated


def job_columns(job: Job, recipe: Recipe) -> dict[str, Any]:
    """The columns that tell what a job asked for; `recipe` with what was decided about it since."""
    return {
        "id": job.id,
        "own_id": int(job.own_id),
        "digest": job.digest,
        "file": job.file,
        "prompt": json.dumps(job.prompt),
        "recipe": recipe_to_json(recipe),
        "backends": json.dumps(job.backends),
        "labels": json.dumps(job.labels),
        "stagger": job.stagger,
        "priority": job.priority,
        "on_failure": job.on_failure.value,
        "notify": job.notify,
    }


def recipe_to_json(recipe: Recipe) -> str:
    """Write a recipe for `jobs.recipe`; what is None or empty is left out."""
    values = {name: getattr(recipe, name) for name in Recipe._fields}
    values["loras"] = [[lora.name, lora.weight] for lora in recipe.loras]
    values["params"] = dict(recipe.params)
    return json.dumps({key: value for key, value in values.items() if value or (value == 0 and value is not False)})


def recipe_from_json(text: str) -> Recipe:
    """Read back what `recipe_to_json` wrote."""
    values = json.loads(text)
    values["loras"] = tuple(Lora(name, weight) for name, weight in values.get("loras", ()))
    return Recipe(**values)


class Reader:
    """Makes Images of rows; recipes and labels of a job are parsed once while its images are asked for.

    Args:
        ask: runs a query, for recipes that are too large to come with each row.
    """

    def __init__(self, ask: Callable[..., list[Any]]) -> None:
        self._ask = ask
        self._jobs: OrderedDict[int, tuple[Recipe, tuple[str, ...], int]] = OrderedDict()
        self._held = 0

    def image(self, row: Row) -> Image:
        """Make an Image of a row of SELECT_IMAGE."""
        number, first, slug, public_id, seq = row[5], row[6], row[7], row[8], row[11]
        recipe, labels = self._of_job(seq, row[12], row[13])
        return Image(
            row=row[0],
            job_id=row[1] or "",
            character_id=row[2],
            character_name=row[3],
            owner=row[4],
            number=number,
            place=0 if first is None else number - first,
            filename=naming.filename(slug, number),
            public_id=public_id,
            prompt=row[9] or "",
            seed=row[10] or 0,
            recipe=recipe,
            labels=labels,
            on_failure=OnFailure(row[14]) if row[14] else OnFailure.PLACEHOLDER,
            quantity=row[15] or 1,
            state=State(row[16]),
            standing=State(row[17]) if row[17] else None,
            backend=row[18],
            ticket=row[19],
            attempts=row[20],
            failures=row[21],
            doubtful=row[22],
            gpu_seconds=row[23],
            used_embedding=bool(row[24]),
            created_at=row[25],
            fault=Fault(row[26], row[27]) if row[26] is not None else None,
            sent_to=row[29] if row[28] is None else None,
            submission=Submission(*row[28:33]) if row[28] is not None else None,
            artifact=Artifact(*row[33:41]) if row[33] is not None else None,
            stored=_stored(public_id, row[41:51]),
        )

    def _of_job(self, seq: int | None, recipe: str | None, labels: str | None) -> tuple[Recipe, tuple[str, ...]]:
        if seq is None or labels is None:
            return Recipe(), ()
        known = self._jobs.get(seq)
        if known is None:
            known = self._jobs[seq] = self._parsed(seq, recipe, labels)
            self._held += known[2]
            while self._held > KEPT and len(self._jobs) > 1:
                _, (_, _, size) = self._jobs.popitem(last=False)
                self._held -= size
        return known[0], known[1]

    def _parsed(self, seq: int, recipe: str | None, labels: str) -> tuple[Recipe, tuple[str, ...], int]:
        if recipe is None:
            ((recipe,),) = self._ask(RECIPE, seq)
        return recipe_from_json(recipe), tuple(json.loads(labels)), len(recipe) + len(labels) + OVERHEAD


def _stored(public_id: str, row: Row) -> Stored | None:
    url, version, md5, size, width, height, form, path, store_date, delivery = row
    if url is None:
        return None
    return Stored(public_id, url, version, md5, size, width, height, form, path, store_date, delivery)


def changes(before: Image, after: Image) -> dict[str, Any]:
    """What a recorded step has made different, by column; a part that is another one is told whole."""
    changed: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(after, name)
        if value != getattr(before, name):
            changed[name] = value
    if after.sent_to != before.sent_to:
        changed["base_url"] = after.sent_to
    if after.state is not before.state or after.standing is not before.standing:
        changed["state"] = after.state.value
        changed["standing"] = after.standing.value if after.standing else None
        changed["status"] = status_of(after.state, after.standing).value
    for name, columns, fields in _PARTS:
        part = getattr(after, name)
        if part != getattr(before, name):
            changed.update(zip(columns, _fields(part, fields), strict=True))
    return changed


def stored_columns(stored: Stored | None) -> dict[str, Any]:
    """The columns that tell what a store keeps."""
    return dict(zip(_STORED, _fields(stored, _STORED_FIELDS), strict=True))


_PLAIN = ("backend", "ticket", "attempts", "failures", "doubtful", "gpu_seconds", "used_embedding")
_FAULT = ("code", "message")
_SUBMISSION = ("remote_id", "base_url", "accepted_at", "deadline", "expires_at")
_ARTIFACT = ("file", "md5", "bytes", "width", "height", "format", "pixels", "color")
_STORED = ("url", "version", "md5", "bytes", "width", "height", "format", "path", "store_date", "delivery")
_STORED_FIELDS = ("url", "version", "md5", "bytes", "width", "height", "format", "path", "created_at", "type")

_PARTS = (
    ("fault", tuple(f"fault_{name}" for name in _FAULT), _FAULT),
    ("submission", _SUBMISSION, _SUBMISSION),
    ("artifact", tuple(f"spool_{name}" for name in _ARTIFACT), _ARTIFACT),
    ("stored", _STORED, _STORED_FIELDS),
)


def _fields(value: object | None, names: tuple[str, ...]) -> list[Any]:
    return [None] * len(names) if value is None else [getattr(value, name) for name in names]
