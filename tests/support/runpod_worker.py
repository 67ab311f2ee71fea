"""A RunPod worker: run by the real SDK in its own environment, it hands back what each known worker would."""

import asyncio
import os

import runpod


def answers(picture: str) -> dict[str, object]:
    uri = "data:image/png;base64," + picture
    return {
        "comfyui": {"images": [{"filename": "a_00001_.png", "type": "base64", "data": picture}]},
        "a1111": {"images": [picture], "parameters": {}, "info": '{"index_of_first_image": 0}'},
        "sdxl": {"images": [uri], "image_url": uri, "seed": 7},
        "error": {"error": "Workflow validation failed: node 4", "details": ["ckpt_name: value_not_in_list"]},
        "422": {"detail": [{"loc": ["body", "steps"], "msg": "validation error"}]},
        "no image": {"status": "success_no_images", "images": []},
    }


async def handler(job: dict) -> object:
    given = job["input"]
    match given["acts"]:
        case "sdxl":
            runpod.serverless.progress_update(job, {"images": ["half done"]})
        case "raise":
            raise ValueError("the prompt broke it")
        case "hang":
            await asyncio.sleep(3600)
        case "crash":
            os._exit(3)
    return answers(given["picture"])[given["acts"]]


runpod.serverless.start({"handler": handler})
