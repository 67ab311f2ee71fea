"""Fill an index with finished images (and unfinished jobs), quickly, for benchmarks of what grows with it.

    python benchmarks/seed_index.py FOLDER --images 1000000 --characters 1000 --unfinished 10000

Rows are written straight into the tables, as `record` would have left them; `--check` runs the index's own check.
`--measure` opens the result as the daemon and the gallery do, and prints what that costs.
"""

import argparse
import json
import sqlite3
import statistics
import time
from pathlib import Path

import trio

from pipeline import lifecycle as law
from pipeline.catalogue import Catalogue, Filter, cursor
from pipeline.ledger import open_ledger
from pipeline.ledger.opening import open_for_writing
from pipeline.model import Artifact, CharacterRef, Job, PlannedImage, Recipe, Stored, Submission

START = 1_700_000_000_000
PER_JOB = 100  # images in each finished job
PROMPT = "a portrait in a beautiful garden, soft light, take {}"
IMAGE = """INSERT INTO images (job, character, number, public_id, prompt, seed, state, status, shown_at, created_at,
    updated_at, backend, attempts, gpu_seconds, spool_file, spool_md5, spool_bytes, spool_width, spool_height,
    spool_format, spool_pixels, spool_color, url, version, md5, bytes, width, height, format, delivery, color)
    VALUES (:job, :character, :number, :public_id, :prompt, :number, 'done', 'done', :moment, :moment, :moment, 'pod', 1,
    12.5, :file, :md5, 1234567, 1024, 1536, 'png', :pixels, '#7a6a58', :url, '1753696800', :md5, 1234567, 1024, 1536,
    'png', 'authenticated', '#7a6a58')"""
EVENTS = ("Submitting", "Accepted", "Fetched", "StoredAt")
RECIPE = json.dumps({"width": 1024, "height": 1536, "style": "anime", "steps": 28})


def seed(folder: Path, images: int, characters: int, unfinished: int, big: int) -> None:
    """The first character gets `big` images, the others share the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = open_for_writing(folder / "index.db")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("INSERT INTO owners (id, slug, adopted_at) VALUES ('me', 'me', ?)", (START,))
    shares = [big] + [(images - big) // max(characters - 1, 1)] * (characters - 1)
    for n, share in enumerate(shares, 1):
        connection.execute("BEGIN")
        _character(connection, n, share)
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    for n in range(unfinished):
        _waiting(connection, n, characters)
    connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _character(connection: sqlite3.Connection, n: int, share: int) -> None:
    slug = f"character-{n}"
    row = connection.execute(
        "INSERT INTO characters (id, owner, name, wish, slug, highest, revision, newest_at, created_at) "
        "VALUES (?, 1, ?, ?, ?, ?, 1, ?, ?)",
        (slug, slug, slug, slug, share, START + share * 1_000, START),
    ).lastrowid
    for first in range(1, share + 1, PER_JOB):
        quantity = min(PER_JOB, share - first + 1)
        job = _job(connection, f"{slug}-{first}", row, first, quantity, done=quantity)
        prompt = _prompt(connection, row, first)
        made = connection.executemany(IMAGE, _images(job, row, prompt, slug, range(first, first + quantity)))
        assert made.rowcount == quantity
        (last,) = connection.execute("SELECT max(id) FROM images").fetchone()
        connection.executemany(
            "INSERT INTO events (image, n, at, event, detail) VALUES (?, ?, ?, ?, ?)",
            (
                (image, k, START, event, '{"remote_id": "8b6f9f53-36a2-4f32-8a44-0f7c6f5fb3d2"}')
                for image in range(last - quantity + 1, last + 1)
                for k, event in enumerate(EVENTS, 1)
            ),
        )
    connection.execute("INSERT INTO tallies VALUES (?, 'done', ?)", (row, share))


def _images(job, character, prompt, slug, numbers):
    for number in numbers:
        public_id = f"me/characters/{slug}/images/{slug}_image_{number}"
        digest = f"{character:016x}{number:016x}"
        url = f"https://res.cloudinary.com/demo/image/authenticated/s--0123abcd--/v1753696800/{public_id}.png"
        moment = START + number * 1_000
        yield {
            "job": job,
            "character": character,
            "number": number,
            "public_id": public_id,
            "prompt": prompt,
            "moment": moment,
            "file": f"{digest}.img",
            "md5": digest,
            "pixels": digest * 2,
            "url": url,
        }


def _job(connection, job_id, character, first, quantity, *, done):
    return connection.execute(
        "INSERT INTO jobs (id, own_id, digest, file, owner, character, prompt, recipe, backends, labels, stagger, "
        "priority, on_failure, quantity, first_number, status, planned, queued, done, created_at, started_at, "
        "finished_at, filed) VALUES (:id, 0, :id, :id, 1, :character, '\"a portrait\"', :recipe, '[\"pod\"]', '[\"spring\"]', "
        "0, 0, 'placeholder', :quantity, :first, :status, :left, :left, :done, :start, :start, :finished, :filed)",
        {
            "id": job_id,
            "character": character,
            "recipe": RECIPE,
            "quantity": quantity,
            "first": first,
            "status": "done" if done else "queued",
            "left": quantity - done,
            "done": done,
            "start": START,
            "finished": START if done else None,
            "filed": int(bool(done)),
        },
    ).lastrowid


def _prompt(connection, character, n):
    text = PROMPT.format(n)
    row = connection.execute("INSERT INTO prompts (character, text) VALUES (?, ?)", (character, text)).lastrowid
    connection.execute("INSERT INTO prompts_fts (rowid, text, character) VALUES (?, ?, ?)", (row, text, character))
    return row


def _waiting(connection: sqlite3.Connection, n: int, characters: int) -> None:
    character = n % characters + 1
    slug = f"character-{character}"
    (highest,) = connection.execute(
        "UPDATE characters SET highest = highest + 1 WHERE row = ? RETURNING highest", (character,)
    ).fetchall()[0]
    job = _job(connection, f"waiting-{n}", character, highest, 1, done=0)
    connection.execute(
        "INSERT INTO images (job, character, number, public_id, prompt, seed, state, status, shown_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, 7, 'planned', 'queued', 9000000000000000, ?)",
        (
            job,
            character,
            highest,
            f"me/characters/{slug}/images/{slug}_image_{highest}",
            _prompt(connection, character, n),
            START,
        ),
    )
    connection.execute("INSERT INTO tallies VALUES (?, 'queued', 1) ON CONFLICT DO UPDATE SET n = n + 1", (character,))


# -- what the result costs to use


def _ms(function, rounds=30):
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        took.append((time.perf_counter() - start) * 1_000)
    return f"{statistics.median(took):9.3f} ms   (worst {max(took):.3f})"


async def measure(path: Path, label: str) -> None:
    start = time.perf_counter()
    async with open_ledger(path) as ledger:
        opened = time.perf_counter()
        found = len(ledger.turns()), len(ledger.at_backends()), len(ledger.to_store(100)), len(ledger.to_file(100))
        ready = time.perf_counter()
        print(
            f"{label}: open {1_000 * (opened - start):.0f} ms, all that is due {1_000 * (ready - opened):.0f} ms {found}"
        )
        await _writes(ledger)
    _reads(Catalogue(path))


async def _writes(ledger) -> None:
    tag = time.time_ns()
    start = time.perf_counter()
    for batch in range(20):
        await ledger.accept([_small_job(f"{tag}-{batch}-{n}", n) for n in range(500)])
    took = time.perf_counter() - start
    print(f"  accept one-image jobs, 500 a transaction   {10_000 / took:9.0f} jobs/s")
    start = time.perf_counter()
    await ledger.accept([_small_job(f"{tag}-large", 1, quantity=10_000)])
    print(f"  accept one job of 10,000 images            {1_000 * (time.perf_counter() - start):9.0f} ms")
    images = ledger.planned(f"{tag}-large", 2_000)
    cpu, start = time.process_time(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for k in range(50):
            nursery.start_soon(_carry, ledger, images[k::50])
    steps = 4 * len(images)
    print(
        f"  record, 50 writers at once                 {1_000 * (time.perf_counter() - start) / steps:9.3f} ms a step"
        f"   (CPU {1_000 * (time.process_time() - cpu) / steps:.3f})"
    )


def _small_job(job_id, n, quantity=1):
    return Job(
        id=job_id,
        own_id=False,
        character=CharacterRef(f"character-{n % 100 + 2}", None),
        owner=None,
        default_owner="me",
        prompt="a portrait",
        images=tuple(PlannedImage("a portrait in a beautiful garden", seed) for seed in range(quantity)),
        recipe=Recipe(style="anime", steps=28),
        backends=("pod",),
        digest=job_id,
        file=f"{job_id}.yaml",
    )


async def _carry(ledger, images) -> None:
    for image in images:
        spool = Artifact(f"{image.row}.img", "0" * 32, 1, 8, 8, "png", f"{image.row:064x}", "#000000")
        kept = Stored(image.public_id, "https://x/y.png", "1", "0" * 32, 1, 8, 8, "png")
        for event in (
            law.Submitting("pod", f"t-{image.row}"),
            law.Accepted(Submission("r", "http://pod", 1, 2)),
            law.Fetched(spool, 12.0),
            law.StoredAt(kept),
        ):
            image = await ledger.record(image, event)  # noqa: PLW2901  # the image goes on as it was recorded


def _reads(catalogue: Catalogue) -> None:
    first = catalogue.page("character-1", limit=50)
    last = _last_cursor(catalogue)
    queued = Filter(("queued", "running", "done", "placeholder"))
    job = catalogue.jobs("me", statuses=("done",), limit=1).rows[0].id
    for name, ask in (
        (f"first page of 50 of {first.total:,} images", lambda: catalogue.page("character-1", limit=50)),
        ("last page of the same", lambda: catalogue.page("character-1", limit=50, after=last)),
        ("page with four statuses", lambda: catalogue.page("character-1", queued, limit=50)),
        ("page filtered by job", lambda: catalogue.page("character-1", Filter(job="character-1-101"), limit=50)),
        ("page filtered by label", lambda: catalogue.page("character-1", Filter(label="spring"), limit=50)),
        ("page filtered by prompt", lambda: catalogue.page("character-1", Filter(q="garden 101"), limit=50)),
        ("page of 1,000", lambda: catalogue.page("character-1", limit=1_000)),
        ("character", lambda: catalogue.character("character-7")),
        ("characters, 50", lambda: catalogue.characters("me", limit=50)),
        ("jobs, 50", lambda: catalogue.jobs("me", limit=50)),
        ("result of a job", lambda: catalogue.result(job)),
        ("summary", catalogue.summary),
    ):
        print(f"  {name:42} {_ms(ask)}")


def _last_cursor(catalogue: Catalogue) -> str:
    """The cursor before the last page, made from the row that ends the page before it."""

    row = catalogue.image("character-1", 51)
    assert row is not None
    assert row.created_at is not None
    return cursor.encode(row.created_at, 51)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--characters", type=int, default=1_000)
    parser.add_argument("--unfinished", type=int, default=10_000, help="one-image jobs that wait")
    parser.add_argument("--big", type=int, help="images of the first character (default: a tenth)")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--measure", action="store_true")
    told = parser.parse_args()
    path = told.folder / "index.db"
    if not path.exists():
        start = time.perf_counter()
        seed(told.folder, told.images, told.characters, told.unfinished, told.big or told.images // 10)
        took = time.perf_counter() - start
        print(
            f"{told.images:,} images, {told.characters:,} characters in {took:.1f} s, {path.stat().st_size / 1e6:,.0f} MB"
        )
    if told.check:
        start = time.perf_counter()
        print(Catalogue(path).verify() or "nothing wrong", f"({time.perf_counter() - start:.1f} s)")
    if told.measure:
        trio.run(measure, path, f"{told.images:,} images")


if __name__ == "__main__":
    main()
