"""The worker of `queues.ProcrastinateQueue`.

python procrastinate_worker.py FOLDER DATABASE_URL
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from queues import AT_ONCE, ProcrastinateQueue


async def main(folder: Path, database_url: str) -> None:
    """Work until SIGTERM."""
    app = ProcrastinateQueue(folder, database_url).app
    async with app.open_async():
        await app.run_worker_async(concurrency=AT_ONCE)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
