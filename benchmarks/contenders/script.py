"""The bare script: aiohttp and a semaphore, nothing durable. python -m benchmarks.contenders.script IMAGES"""

import asyncio
import hashlib
import sys
import time

import aiohttp

from benchmarks.contenders import orders


async def make(session: aiohttp.ClientSession, number: int, free: asyncio.Semaphore) -> None:
    async with free:
        async with session.post(f"{orders.GPU}/run", json=orders.order(number), headers=orders.BEARER) as answer:
            job = await answer.json()
        while True:
            await asyncio.sleep(orders.LOOK_EVERY)
            async with session.get(f"{orders.GPU}/status/{job['id']}", headers=orders.BEARER) as answer:
                if answer.status == 429:
                    continue
                data = await asyncio.to_thread(orders.checked_picture, await answer.json())
                if data is not None:
                    break
        await upload(session, number, data)


async def upload(session: aiohttp.ClientSession, number: int, data: bytes) -> None:
    fields = {
        "overwrite": "0",
        "public_id": orders.public_id(number),
        "tags": "mary",
        "timestamp": str(int(time.time())),
        "type": "authenticated",
    }
    text = "&".join(f"{name}={value}" for name, value in sorted(fields.items())) + orders.CLOUD_SECRET
    form = aiohttp.FormData(
        {**fields, "api_key": orders.CLOUD_KEY, "signature": hashlib.sha1(text.encode()).hexdigest()}
    )
    form.add_field("file", data, filename="file")
    async with session.post(f"{orders.CLOUD_URL}/v1_1/{orders.CLOUD}/image/upload", data=form) as answer:
        answer.raise_for_status()
        orders.record(number, await answer.json())


async def main(images: int) -> None:
    free = asyncio.Semaphore(orders.IN_FLIGHT)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in range(images):
            group.create_task(make(session, number, free))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
