"""The front door: a file in `jobs/` becomes an accepted job, or is set aside with the reason.

`reading` and `settling` tell whether a file's writer is done, `drafting` parses, `claiming` renames, `intake` makes a
pass of it all, `watching` hears of files early, and `door` decides when to look. Nothing is imported here: commands need
the names alone, and libraries for listening take a quarter of a second.
"""
