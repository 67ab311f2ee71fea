"""The tables of the index, as migrations; docs/index.md tells what outsiders may rely on.

Moments are milliseconds since 1970 UTC. `images.state` is the law's own word, `images.status` what the outside is
told; both are written by `steps.record` (and once, at birth, by `numbering`). Counters on `jobs` and in `tallies`
repeat what could be counted, so that no answer costs more as the index grows; `catalogue.verify` compares them.
"""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

APPLICATION_ID = 0x504C_4958  # marks the file as an index of this program, see `file(1)` and PRAGMA application_id

migrations = Migrations("pipeline")

_OWNERS = """
CREATE TABLE owners (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    slug TEXT UNIQUE,                       -- the owner's folder; NULL until the store was listed
    adopted_at INTEGER,
    revision INTEGER NOT NULL DEFAULT 0     -- grows with anything that an answer about the owner's characters or jobs shows
) STRICT
"""
_CHARACTERS = """
CREATE TABLE characters (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL REFERENCES owners(row),
    name TEXT NOT NULL,
    wish TEXT NOT NULL,                     -- the slug of the name it was first seen under
    slug TEXT,                              -- final once the owner's folder was listed
    embedding TEXT,
    highest INTEGER NOT NULL DEFAULT 0,     -- the last number given out
    revision INTEGER NOT NULL DEFAULT 0,    -- grows with anything that a gallery answer shows
    newest_at INTEGER NOT NULL DEFAULT 0,   -- the greatest created_at among its images
    created_at INTEGER NOT NULL,
    UNIQUE (owner, slug)
) STRICT
"""
_JOBS = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,                -- arrival order
    id TEXT NOT NULL UNIQUE,
    own_id INTEGER NOT NULL,
    digest TEXT NOT NULL,
    file TEXT NOT NULL,
    owner INTEGER NOT NULL REFERENCES owners(row),
    character INTEGER NOT NULL REFERENCES characters(row),
    prompt TEXT NOT NULL,                   -- JSON: what the job said, a text or a list
    recipe TEXT NOT NULL,                   -- JSON
    backends TEXT NOT NULL,                 -- JSON list
    labels TEXT NOT NULL,                   -- JSON list
    stagger REAL NOT NULL,
    priority INTEGER NOT NULL,
    on_failure TEXT NOT NULL,
    notify TEXT,
    quantity INTEGER NOT NULL,
    first_number INTEGER,                   -- NULL until numbered; the job has `quantity` numbers from here on
    plan TEXT,                              -- JSON: prompts and seeds while the job waits to be numbered
    status TEXT NOT NULL DEFAULT 'queued',
    reason TEXT,
    planned INTEGER NOT NULL DEFAULT 0,     -- images in state planned, those made again included
    queued INTEGER NOT NULL,                -- images by status
    running INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    placeholder INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    filed INTEGER NOT NULL DEFAULT 0,       -- its result file tells what the index tells
    version INTEGER NOT NULL DEFAULT 0      -- grows with every recorded step of its images
) STRICT
"""
_PROMPTS = """
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY,
    character INTEGER NOT NULL REFERENCES characters(row),
    text TEXT NOT NULL
) STRICT
"""
_IMAGES = """
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    job INTEGER REFERENCES jobs(seq),       -- NULL: adopted from the store
    character INTEGER NOT NULL REFERENCES characters(row),
    number INTEGER NOT NULL,
    public_id TEXT NOT NULL UNIQUE,
    prompt INTEGER REFERENCES prompts(id),
    seed INTEGER,
    state TEXT NOT NULL,
    standing TEXT,                          -- what the gallery goes on showing while it is made again
    status TEXT NOT NULL,
    shown_at INTEGER NOT NULL,              -- created_at, or clock.NOT_YET while there is none
    created_at INTEGER,
    updated_at INTEGER NOT NULL,
    favorite INTEGER NOT NULL DEFAULT 0,
    backend TEXT,
    ticket TEXT,
    remote_id TEXT,
    base_url TEXT,
    accepted_at INTEGER,
    deadline INTEGER,
    expires_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    doubtful INTEGER NOT NULL DEFAULT 0,
    gpu_seconds REAL NOT NULL DEFAULT 0,
    used_embedding INTEGER NOT NULL DEFAULT 0,
    fault_code TEXT,
    fault_message TEXT,
    spool_file TEXT,                        -- the bytes last fetched or drawn
    spool_md5 TEXT,
    spool_bytes INTEGER,
    spool_width INTEGER,
    spool_height INTEGER,
    spool_format TEXT,
    spool_pixels TEXT,
    spool_color TEXT,
    url TEXT,                               -- from here on: what the store keeps
    version TEXT,
    md5 TEXT,
    bytes INTEGER,
    width INTEGER,
    height INTEGER,
    format TEXT,
    path TEXT,
    store_date INTEGER,
    delivery TEXT,
    color TEXT,
    UNIQUE (character, number)
) STRICT
"""
_TABLES = (
    _OWNERS,
    _CHARACTERS,
    _JOBS,
    _PROMPTS,
    _IMAGES,
    """CREATE TABLE events (
        image INTEGER NOT NULL REFERENCES images(id),
        n INTEGER NOT NULL,
        at INTEGER NOT NULL,
        event TEXT NOT NULL,
        detail TEXT NOT NULL,               -- JSON
        PRIMARY KEY (image, n)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE labels (
        character INTEGER NOT NULL REFERENCES characters(row),
        label TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES jobs(seq),
        PRIMARY KEY (character, label, job)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE tallies (
        character INTEGER NOT NULL REFERENCES characters(row),
        status TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (character, status)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE shelf (
        id INTEGER PRIMARY KEY,
        owner INTEGER NOT NULL REFERENCES owners(row),
        slug TEXT NOT NULL,
        number INTEGER NOT NULL,
        character_id TEXT,                  -- as the asset's own context tells
        asset TEXT NOT NULL                 -- JSON
    ) STRICT""",
    """CREATE TABLE lanes (
        name TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        slots INTEGER NOT NULL,
        busy INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        typical REAL,
        reason TEXT,
        next_try INTEGER,
        noted_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE days (
        day TEXT NOT NULL,                  -- UTC
        backend TEXT NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        placeholder INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        gpu_seconds REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (day, backend)
    ) STRICT, WITHOUT ROWID""",
    """CREATE VIRTUAL TABLE prompts_fts USING fts5 (
        text, character, content = 'prompts', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2"
    )""",
)
_INDEXES = (
    "CREATE INDEX characters_of_owner ON characters (owner)",
    "CREATE INDEX characters_wish ON characters (owner, wish)",
    "CREATE INDEX jobs_of_owner ON jobs (owner, seq)",
    "CREATE INDEX jobs_unnumbered ON jobs (owner, seq) WHERE plan IS NOT NULL",
    "CREATE INDEX jobs_planned ON jobs (seq) WHERE planned > 0",
    "CREATE INDEX jobs_unfinished ON jobs (seq) WHERE status IN ('queued', 'running')",
    "CREATE INDEX jobs_to_file ON jobs (finished_at) WHERE filed = 0 AND status IN ('done', 'cancelled')",
    # job and prompt ride along so that filters and counts need no look at the rows themselves
    "CREATE INDEX images_page ON images (character, status, shown_at, number, job, prompt)",
    "CREATE INDEX images_favorite ON images (character, status, shown_at, number) WHERE favorite = 1",
    "CREATE INDEX images_pixels ON images (job, spool_pixels) WHERE spool_pixels IS NOT NULL",
    "CREATE INDEX images_planned ON images (job, number) WHERE state = 'planned'",
    "CREATE INDEX images_at_backend ON images (id) WHERE state IN ('submitting', 'unclear', 'submitted')",
    "CREATE INDEX images_to_store ON images (updated_at, id) WHERE state IN ('fetched', 'given_up', 'drawn')",
    "CREATE INDEX shelf_of_owner ON shelf (owner, slug)",
)
_GALLERY = """
CREATE VIEW gallery AS SELECT
    owners.id AS owner, characters.id AS character_id, characters.name AS character, images.number,
    characters.slug || '_image_' || images.number AS filename, images.public_id, images.status,
    images.standing IS NOT NULL AS retrying, images.url, images.path,
    strftime('%Y-%m-%dT%H:%M:%fZ', images.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', images.updated_at / 1000.0, 'unixepoch') AS updated_at,
    prompts.text AS prompt, jobs.recipe ->> '$.negative_prompt' AS negative_prompt, images.seed,
    jobs.recipe ->> '$.style' AS style, jobs.recipe ->> '$.model' AS model, jobs.recipe ->> '$.steps' AS steps,
    jobs.recipe ->> '$.cfg_scale' AS cfg_scale, jobs.recipe ->> '$.sampler_name' AS sampler_name,
    images.backend, images.attempts, images.doubtful AS maybe_paid_twice, images.gpu_seconds,
    images.width, images.height, images.format, images.bytes, images.color, images.favorite,
    coalesce(jobs.labels, '[]') AS labels, images.fault_code AS error_code, images.fault_message AS error_message,
    jobs.id AS job_id
FROM images
JOIN characters ON characters.row = images.character
JOIN owners ON owners.row = characters.owner
LEFT JOIN jobs ON jobs.seq = images.job
LEFT JOIN prompts ON prompts.id = images.prompt
"""


@migrations()
def m001_first_index(db: Database) -> None:
    """All tables, indexes and the view of the first index."""
    for statement in (*_TABLES, *_INDEXES, _GALLERY):
        db.conn.execute(statement)


@migrations()
def m002_pauses(db: Database) -> None:
    """What people have paused, so that a restart goes on pausing it."""
    db.conn.execute(
        """CREATE TABLE pauses (
            kind TEXT NOT NULL,                 -- 'all', 'backend' or 'job'
            name TEXT NOT NULL,                 -- empty for all
            since INTEGER NOT NULL,
            PRIMARY KEY (kind, name)
        ) STRICT, WITHOUT ROWID"""
    )


@migrations()
def m003_notices(db: Database) -> None:
    """Who is to be told of each end of a job, and what has come of it."""
    db.conn.execute(
        """CREATE TABLE notices (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,            -- what the receiver knows it by, the same at every try
            job INTEGER NOT NULL REFERENCES jobs(seq),
            receiver TEXT NOT NULL,             -- host and port; the address itself is the job's
            ended_at INTEGER NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            tried_at INTEGER,                   -- when it was tried for the first time
            next_at INTEGER,                    -- NULL: it was delivered, or given up
            delivered_at INTEGER,
            trouble TEXT                        -- why the last try failed
        ) STRICT"""
    )
    db.conn.execute("CREATE INDEX notices_due ON notices (receiver, next_at) WHERE next_at IS NOT NULL")
    db.conn.execute("CREATE INDEX notices_of_job ON notices (job)")
    db.conn.execute("CREATE INDEX images_made_again ON images (job) WHERE standing IS NOT NULL")


@migrations()
def m004_figures(db: Database) -> None:
    """Figures that only grow, for `/metrics`, and what keeps the whole from going on, for `status`."""
    for column in ("attempts", "attempts_failed", "doubtful"):
        db.conn.execute(f"ALTER TABLE days ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.conn.execute(
        """CREATE TABLE durations (
            backend TEXT NOT NULL,
            bound REAL NOT NULL,                -- seconds; images that took at most so long, and more than the one below
            n INTEGER NOT NULL,
            seconds REAL NOT NULL,              -- what they took in all
            PRIMARY KEY (backend, bound)
        ) STRICT, WITHOUT ROWID"""
    )
    db.conn.execute(
        """CREATE TABLE troubles (
            what TEXT PRIMARY KEY,              -- 'store', 'spool', 'disk', 'intake'
            reason TEXT NOT NULL,
            since INTEGER NOT NULL,
            next_try INTEGER
        ) STRICT, WITHOUT ROWID"""
    )
