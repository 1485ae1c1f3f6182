import asyncio
from pathlib import Path


async def make_thumbnail(image, width):
    if image == "broken.jpg":
        raise ValueError(f"{image} is not an image")
    if image == "huge.jpg":
        print("drawing", flush=True)
        while not Path("drawn").exists():  # noqa: ASYNC110, ASYNC240  # another process says when
            await asyncio.sleep(0.02)
    return f"/thumbs/{width}/{image}"
