"""The front door: a file in `jobs/` becomes an accepted job, or is set aside with the reason.

`reading` and `settling` tell whether a file's writer is done, `drafting` parses, `claiming` renames, `intake` makes a
pass of it all, `watching` hears of files early, and `door` decides when to look.
"""

from pipeline.inbox.counts import Pass, Totals
from pipeline.inbox.disk import Disk
from pipeline.inbox.door import Inbox

__all__ = ["Disk", "Inbox", "Pass", "Totals"]
