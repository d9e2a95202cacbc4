"""An agent's publisher as a process of its own, to be killed: ``python -m tests.eventful BROKER FIRST``.

It puts down events numbered from FIRST on, and prints the number of each once that event is on disk.
"""

import asyncio
import itertools
import sys

from tests.publishing import running, talker


async def tell(broker: str, first: int) -> None:
    p = talker(broker)
    async with running(p):
        for n in itertools.count(first):
            p.event({"type": "new", "n": n})
            # Nobody else wants to know when one is written, so that there is nothing to wait for.
            while p._outbox._unwritten:  # noqa: ASYNC110
                await asyncio.sleep(0)
            print(n, flush=True)


if __name__ == "__main__":
    asyncio.run(tell(sys.argv[1], int(sys.argv[2])))
