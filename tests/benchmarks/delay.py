"""A long path on one machine: a program that passes bytes on after half a round trip, in each direction.

It keeps as much under way as a fast long path would, and costs the two sides nothing but the delay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from typing import Final

READ_BYTES: Final = 256 * 1024
#: What a path of 1 Gbit/s and a second holds.
UNDER_WAY_BYTES: Final = 128 * 1024 * 1024


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass bytes on, each `seconds` after it came."""
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[float, bytes]] = deque()
    arrived = asyncio.Event()

    async def deliver() -> None:
        while True:
            while not waiting:
                arrived.clear()
                await arrived.wait()
            due, data = waiting.popleft()
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while True:
            try:
                data = await reader.read(READ_BYTES)
            except OSError:
                data = b""
            waiting.append((loop.time() + seconds, data))
            arrived.set()
            if not data:
                break
        await delivering
    except OSError:
        delivering.cancel()


async def main(port: int, seconds: float) -> None:
    """Listen, and connect every client to `port`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port, limit=UNDER_WAY_BYTES)
        await asyncio.gather(pass_on(reader, back, seconds), pass_on(there, writer, seconds))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=UNDER_WAY_BYTES)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="in each direction")
    options = parser.parse_args()
    asyncio.run(main(options.port, options.seconds))
