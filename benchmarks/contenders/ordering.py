"""Hand the work to a queue: python -m benchmarks.contenders.ordering celery IMAGES."""

import importlib
import sys

order = importlib.import_module(f"benchmarks.contenders.queue_{sys.argv[1]}").order
for n in range(int(sys.argv[2])):
    order(n)
