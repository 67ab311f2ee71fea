"""What `pipeline serve` is measured against: the same page of a gallery by a handler with nothing around it.

uvicorn, Starlette, one SQL statement for the rows and one for their number, orjson. No token is asked for, no ETag is
made, no address is signed, nothing is kept. Run: INDEX=…/index.db uvicorn benchmarks.yardstick:app
"""

import json
import os
import sqlite3
from datetime import UTC, datetime

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

PAGE = """
SELECT images.url, images.public_id, images.created_at, characters.slug, images.number, images.status,
    images.updated_at, images.width, images.height, images.format, images.bytes, images.color, prompts.text,
    images.seed, jobs.recipe, images.backend, images.gpu_seconds, images.attempts, jobs.labels, images.favorite,
    images.standing, images.fault_code, images.fault_message, jobs.id, images.shown_at
FROM images
JOIN characters ON characters.row = images.character
JOIN jobs ON jobs.seq = images.job
JOIN prompts ON prompts.id = images.prompt
WHERE characters.id = ? AND images.status = 'done'
ORDER BY images.shown_at DESC, images.number DESC LIMIT ?
"""
TOTAL = "SELECT sum(n) FROM tallies JOIN characters ON characters.row = tallies.character WHERE id = ?"
index = sqlite3.connect(f"file:{os.environ['INDEX']}?mode=ro", uri=True, isolation_level=None)


def moment(milliseconds):
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def image(row):
    url, public_id, created, slug, number, status, updated, width, height, kind, size, color, prompt, seed = row[:14]
    recipe = json.loads(row[14])
    backend, gpu_seconds, attempts, labels, favorite, standing, code, message, job = row[15:24]
    return {
        "url": url, "publicId": public_id, "createdAt": moment(created), "filename": f"{slug}_image_{number}",
        "number": number, "status": status, "updatedAt": moment(updated), "thumbnailUrl": url, "width": width,
        "height": height, "format": kind, "bytes": size, "color": color, "prompt": prompt,
        "negativePrompt": recipe.get("negative_prompt"), "seed": seed, "style": recipe.get("style"),
        "model": recipe.get("model"), "steps": recipe.get("steps"), "cfgScale": recipe.get("cfg_scale"),
        "samplerName": recipe.get("sampler_name"), "backend": backend, "gpuSeconds": gpu_seconds,
        "attempts": attempts, "labels": json.loads(labels), "favorite": bool(favorite),
        "retrying": standing is not None, "error": {"code": code, "message": message} if code else None, "jobId": job,
    }  # fmt: skip


async def gallery(request):
    character, limit = request.path_params["character"], int(request.query_params["limit"])
    rows = index.execute(PAGE, (character, limit + 1)).fetchall()
    (total,) = index.execute(TOTAL, (character,)).fetchone()
    data = {
        "images": [image(row) for row in rows[:limit]],
        "totalCount": total,
        "characterId": character,
        "next": f"{rows[limit - 1][24]}-{rows[limit - 1][4]}" if len(rows) > limit else None,
    }
    return Response(orjson.dumps({"success": True, "data": data}), media_type="application/json")


app = Starlette(routes=[Route("/api/image-generation/character/{character}", gallery)])
