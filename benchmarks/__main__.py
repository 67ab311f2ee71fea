"""`just bench`: the figures of the main job, one after the other, each in a process of its own."""

import subprocess
import sys

for words in (["makespan"], ["daemon", "drops"], ["intake"]):
    print(f"\n== {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]], check=True)
