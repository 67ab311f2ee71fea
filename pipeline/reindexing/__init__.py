"""Bringing a lost index back: `rebuild` leads, `piecing` decides whose each number is, `ended` reads what the jobs folder tells."""

from pipeline.reindexing.rebuild import IndexStands, Progress, Report, reindex

__all__ = ["IndexStands", "Progress", "Report", "reindex"]
