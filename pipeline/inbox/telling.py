"""What the inbox says in the log: the first few of a kind by name, the rest as a count."""

import structlog

_log = structlog.get_logger("pipeline.inbox")

NAMED = 20  # lines of a pass that name a file; ten thousand bad files must not fill a disk with log


class Telling:
    """Warnings about single files during one pass."""

    def __init__(self) -> None:
        self._lines = 0

    def say(self, event: str, **values: object) -> None:
        """Say one line, unless this pass has said enough."""
        self._lines += 1
        if self._lines <= NAMED:
            _log.warning(event, **values)

    def end(self) -> None:
        """Close a pass: tell how much was left unsaid."""
        if self._lines > NAMED:
            _log.warning("as many more files were set aside or left, for reasons like these", files=self._lines - NAMED)
        self._lines = 0
