"""What the inbox reports of itself: the result of each pass, and totals for the metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Pass:
    """What one pass over the folder did, and what it had to leave."""

    taken: int = 0
    rejected: int = 0
    duplicates: int = 0
    settling: int = 0  # have not stood still for long enough yet, or changed under our hands
    written: int = 0  # a process has them open for writing
    stuck: int = 0  # cannot be read or moved until somebody does something about them
    trouble: str | None = None  # the pass ended early: disk full, folder unreadable, index unwritable

    @property
    def left(self) -> int:
        """Files that a later pass will take, if only it is waited for."""
        return self.settling + self.written

    def then(self, later: "Pass") -> "Pass":
        """Add a later pass: what was done adds up, what was left is as the later one found it."""
        return Pass(
            self.taken + later.taken,
            self.rejected + later.rejected,
            self.duplicates + later.duplicates,
            later.settling,
            later.written,
            later.stuck,
            later.trouble,
        )


@dataclass(slots=True)
class Totals:
    """Counts since the start, for the metrics."""

    taken: int = 0
    rejected: int = 0
    duplicates: int = 0
    passes: int = 0
    lag: float = 0.0  # seconds that the file accepted last had lain in the folder
    passed_at: int | None = None  # when the last whole pass ended (milliseconds)

    def add(self, result: Pass) -> None:
        """Count a pass."""
        self.passes += 1
        self.taken += result.taken
        self.rejected += result.rejected
        self.duplicates += result.duplicates
