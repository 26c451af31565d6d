import asyncio
import os
from pathlib import Path

from visionyard.client import AsyncClient


async def main() -> None:
    async with AsyncClient(os.environ["GRPC_URL"], model=os.environ["MODEL"]) as client:
        paths = sorted(Path().glob("*.jpg"))
        for path, result in zip(paths, await client.predict_many(paths, downsize_px=1280), strict=True):
            print(path, result.to_json())


asyncio.run(main())
