"""How many looks at an image may fail in succession before its back end counts as down."""

import trio

from pipeline.errors import NotAccepted

ENDURED = 5
_FIRST_PAUSE = 0.5  # seconds; each further one is twice as long
_FOR_GOOD = frozenset({"credentials", "payment"})  # waiting alone does not mend these


class Endurance:
    """The failures of the looks at one image, since the last that went well."""

    def __init__(self) -> None:
        self._failures = 0

    def went_well(self) -> None:
        """Begin to count anew."""
        self._failures = 0

    async def failed(self, error: NotAccepted) -> None:
        """Wait until it is worth looking again.

        Raises:
            NotAccepted: `error` itself, where it is one too many or waiting does not help.
        """
        self._failures += 1
        if self._failures >= ENDURED or error.code in _FOR_GOOD:
            raise error
        await trio.sleep(max(_FIRST_PAUSE * 2 ** (self._failures - 1), error.retry_after or 0.0))
