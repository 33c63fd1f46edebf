"""As `claimer`, for the peers: run with the Python of their own environment, on databases of their own.

Arguments: the URL of each peer's database as JSON; then nothing, or a peer and how many jobs to load. Each peer is
asked by the call with which its own worker fetches.
"""

from __future__ import annotations

import json
import sys

from tools.benchmarks.peer_queues import PEERS
from tools.benchmarks.serving import serve

if __name__ == "__main__":
    urls = json.loads(sys.argv[1])
    if sys.argv[2:]:
        PEERS[sys.argv[2]](urls[sys.argv[2]]).load(int(sys.argv[3]))
    else:
        serve({name: PEERS[name](url).once for name, url in urls.items()})
