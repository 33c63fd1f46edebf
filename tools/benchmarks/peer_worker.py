"""What `peers` starts with the Python of the peers' environment: fills a peer's queue, or works it off.

Arguments: the peer, the URL of its database, and `load` or `add` with a number of jobs, or `work`. Prints the monotonic
time once everything is imported.
"""

from __future__ import annotations

import sys
import time

from tools.benchmarks.peer_queues import PEERS

if __name__ == "__main__":
    name, url, verb, *count = sys.argv[1:]
    peer = PEERS[name](url)
    print(time.monotonic(), flush=True)
    getattr(peer, verb)(*map(int, count))
