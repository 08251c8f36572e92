"""One of several processes that choose an instance and call it, over and over. Prints how often it called which.

`python -m benchmarks.callers <calls>`
"""

import json
import sys
from collections import Counter

import django

django.setup()

from integrations.clients.http import call  # noqa: E402 - Django must have been set up
from integrations.registry import ServiceKind, choose  # noqa: E402 - the same


def main(calls: int) -> None:
    called: Counter[str] = Counter()
    print("ready", flush=True)
    sys.stdin.readline()  # until all are
    for _ in range(calls):
        instance = choose(ServiceKind.SEGMENTATION)
        call("GET", f"{instance.base_url}/health", base_url=instance.base_url)
        called[instance.base_url] += 1
    print(json.dumps(called))


if __name__ == "__main__":
    main(int(sys.argv[1]))
