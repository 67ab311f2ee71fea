"""Everything that can go wrong, as a tree; the class says whether trying again can help.

PipelineError
├── UserError                  the person who sent it can mend it (exit code 2)
│   ├── ConfigError            pipeline.yaml or the environment
│   ├── SpecError              a job file; carries one Complaint or several
│   ├── HeldElsewhere          another process holds the jobs or the state folder
│   └── NoSuchJob, NoSuchCharacter, NoSuchImage      what was asked for by name is not in the index
├── IndexTrouble               the SQLite index is missing a column, corrupt, read-only or full
├── SpoolTrouble               the spool cannot be written or read: wait and try again
├── IllegalStep                an event that the image's state does not allow: a defect of ours
├── StaleImage                 the row has moved on since it was read: a defect of ours
├── RepeatedOutput             the same pixels twice in one job
├── BackendError               what a back end answered
│   ├── NotAccepted            refused before acceptance: costs no attempt, wait and try again
│   │   └── Unavailable        … and the back end is down as a whole: the circuit opens
│   ├── AcceptanceUnknown      the request went out, the answer did not come back
│   ├── InvalidRequest         the back end will never make this: give up at once
│   ├── AttemptFailed          accepted, then failed: another attempt may succeed
│   │   └── OutOfTime          … or still going on there when its time was over: cancel it
│   └── NotWorthRepeating      accepted and paid, the output is useless and would be again
└── StoreError                 what a store answered
    ├── StoreUnavailable       down, full, rate limited, wrong credentials: wait and try again
    ├── StoreConflict          a different image already stands under our public id
    └── StoreRefused           the store will never take these bytes
"""

from collections.abc import Iterable
from typing import Protocol


class Says(Protocol):
    """A complaint about one place of a file, as `spec.complaint.Complaint` is."""

    @property
    def line(self) -> int:
        """Count of lines, from 1."""
        ...

    @property
    def column(self) -> int:
        """Count of characters, from 1."""
        ...

    @property
    def message(self) -> str:
        """What is wrong, in one sentence without the place."""
        ...

    def render(self) -> str:
        """Place, message, source line, caret and what is expected."""
        ...


class PipelineError(Exception):
    """The root: catching it catches everything that this program raises on purpose."""


class UserError(PipelineError):
    """A person can mend this; the message says where and how."""


class ConfigError(UserError):
    """The configuration cannot be used; nothing starts."""


class SpecError(UserError):
    """A job file cannot be used; `complaints` stand in the order of the file, `str()` shows them all."""

    def __init__(self, complaints: Iterable[Says]) -> None:
        self.complaints = tuple(sorted(complaints, key=lambda said: (said.line, said.column)))
        super().__init__("\n\n".join(said.render() for said in self.complaints))


class HeldElsewhere(UserError):
    """Another process holds this folder; the message names the process."""


class NoSuchJob(UserError):
    """No job was ever accepted under this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f'no job has the id "{job_id}"; `pipeline status` shows what is unfinished')


class NoSuchCharacter(UserError):
    """No job has named this character yet."""

    def __init__(self, character_id: str) -> None:
        super().__init__(f'no character has the id "{character_id}"; `pipeline gallery` lists all')


class NoSuchImage(UserError):
    """The character has no image of this number."""

    def __init__(self, character_id: str, number: int) -> None:
        super().__init__(f"{character_id} has no image {number}; `pipeline gallery {character_id}` lists what there is")


class IndexTrouble(PipelineError):
    """The index cannot be read or written; the message names the file and the remedy."""


class SpoolTrouble(PipelineError):
    """The spool cannot keep or give bytes (disk full, permissions); what it was asked to keep is not kept.

    `lost` is true where the bytes are no longer there: then waiting does not help.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class IllegalStep(PipelineError):
    """The law of `lifecycle` knows no such step from this state."""


class StaleImage(PipelineError):
    """The row in the index is no longer in the state that this image was read in."""


class RepeatedOutput(PipelineError):
    """Another image of the same job has exactly these pixels: the workflow ignores the seed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the same pixels as image {number} of this job: the workflow ignores the seed")


class BackendError(PipelineError):
    """A back end said no, broke, or said nothing; `code` is the word recorded on the image."""

    gpu_seconds = 0.0  # what the failed attempt has cost, where the service tells

    def __init__(self, message: str, *, code: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after  # seconds the service asked us to wait


class NotAccepted(BackendError):
    """Refused before acceptance (429, one busy slot): nothing was bought, the image waits."""


class Unavailable(NotAccepted):
    """The back end is down as a whole, or refuses our credentials: every image there waits."""


class AcceptanceUnknown(BackendError):
    """The request went out and no usable answer came: it may or may not be running there."""


class InvalidRequest(BackendError):
    """The back end names a fault in the request itself: asking again would change nothing."""


class AttemptFailed(BackendError):
    """An accepted submission failed, timed out or vanished."""


class OutOfTime(AttemptFailed):
    """An accepted submission still waits or runs there, and its time is over; whoever asked has it cancelled."""

    def __init__(self, message: str, *, code: str = "timed_out") -> None:
        super().__init__(message, code=code)


class NotWorthRepeating(BackendError):
    """A blank or repeated output: paid for, useless, and it would be so again."""


class StoreError(PipelineError):
    """A store said no, broke, or said nothing; `code` is the word recorded on the image."""

    def __init__(self, message: str, *, code: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class StoreUnavailable(StoreError):
    """Not the image's fault: it stays in the spool and goes on when the store is back.

    `credentials` is true where the store refuses ours: then nothing new is submitted anywhere.
    """

    def __init__(self, message: str, *, code: str, retry_after: float | None = None, credentials: bool = False) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
        self.credentials = credentials


class StoreConflict(StoreError):
    """A different image stands under our public id; it is never overwritten."""


class StoreRefused(StoreError):
    """The store will never take these bytes."""
