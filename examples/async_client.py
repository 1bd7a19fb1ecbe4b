"""Send images to `mien serve` from asyncio, several requests at a time: python examples/async_client.py URL photo.jpg …

Requires httpx. With a token: MIEN_TOKEN=… python examples/async_client.py …
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx

CONCURRENT = 8  # more requests at a time only wait in the queue of the server


async def predict(client: httpx.AsyncClient, turn: asyncio.Semaphore, path: Path) -> dict:
    """Return the result of one image; wait as long as the server asks for when its queue is full."""
    async with turn:
        while True:
            response = await client.post(
                "/v1/predict", content=path.read_bytes(), headers={"Content-Type": "image/*"}, params={"points": "none"}
            )
            if response.status_code != 429:
                break
            await asyncio.sleep(float(response.headers["Retry-After"]))
    response.raise_for_status()
    return response.json()["results"][0]


async def main(url: str, *names: str) -> None:
    token = os.environ.get("MIEN_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    turn = asyncio.Semaphore(CONCURRENT)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        results = await asyncio.gather(*(predict(client, turn, Path(name)) for name in names))
    for name, result in zip(names, results, strict=True):
        faces = [face["label"] if face["certain"] else "uncertain" for face in result["faces"]]
        print(f"{name}: {', '.join(faces) or result['status']}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
