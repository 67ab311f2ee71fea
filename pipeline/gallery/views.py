"""Rows of the catalogue as the answers show them."""

from typing import cast

from pipeline.catalogue import CharacterRow, GalleryRow, JobRow, overview
from pipeline.gallery import answers
from pipeline.ports import Delivery
from pipeline.tools.clock import rfc3339, when


def image(row: GalleryRow, delivery: Delivery, now: int) -> answers.ImageAnswer:
    """Return an image with addresses that open as they are."""
    stored, told, fault = row.stored, row.recipe.get, row.fault_code
    links = delivery.links(stored, now=now) if stored is not None else None
    error = row.error if fault is not None else None
    return {
        "url": links.url if links else None,
        "publicId": row.public_id,
        "createdAt": None if row.created_at is None else rfc3339(row.created_at),
        "filename": row.filename,
        "number": row.number,
        "status": cast("answers.StatusWord", row.status),
        "updatedAt": rfc3339(row.updated_at),
        "thumbnailUrl": links.thumbnail_url if links else None,
        "width": row.stored_width or row.width,
        "height": row.stored_height or row.height,
        "format": stored.format if stored else None,
        "bytes": stored.bytes if stored else None,
        "color": row.color,
        "prompt": row.prompt,
        "negativePrompt": told("negative_prompt"),
        "seed": row.seed,
        "style": told("style"),
        "model": told("model"),
        "steps": told("steps"),
        "cfgScale": told("cfg_scale"),
        "samplerName": told("sampler_name"),
        "backend": row.backend,
        "gpuSeconds": round(row.gpu_seconds, 3),
        "attempts": row.attempts,
        "labels": list(row.labels),
        "favorite": row.chosen == 1,
        "retrying": row.standing is not None,
        "error": {"code": error.code, "message": error.message} if error else None,
        "jobId": row.job_id,
    }


def character(row: CharacterRow, newest: GalleryRow | None, delivery: Delivery, now: int) -> answers.CharacterAnswer:
    """Return a character with its newest picture."""
    counts = row.counts
    return {
        "characterId": row.id,
        "name": row.name,
        "slug": row.slug,
        "owner": row.owner,
        "embedding": row.embedding,
        "createdAt": rfc3339(row.created_at),
        "updatedAt": when(row.newest_at),
        "counts": {
            "queued": counts.get("queued", 0),
            "running": counts.get("running", 0),
            "done": counts.get("done", 0),
            "placeholder": counts.get("placeholder", 0),
            "failed": counts.get("failed", 0),
            "cancelled": counts.get("cancelled", 0),
            "removed": counts.get("removed", 0),
        },
        "newest": _newest(newest, delivery, now) if newest is not None else None,
    }


def _newest(row: GalleryRow, delivery: Delivery, now: int) -> answers.NewestAnswer | None:
    if row.stored is None or row.created_at is None:
        return None
    links = delivery.links(row.stored, now=now)
    return {
        "number": row.number,
        "url": links.url,
        "thumbnailUrl": links.thumbnail_url,
        "width": row.width,
        "height": row.height,
        "color": row.color,
        "createdAt": rfc3339(row.created_at),
    }


def job(row: JobRow) -> answers.JobSummaryAnswer:
    """Return a job without its images."""
    summary: answers.JobSummaryAnswer = overview(row)  # type: ignore[assignment]  # the tests compare it with the type
    return summary
