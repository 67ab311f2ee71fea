"""What `pipeline demo` makes: a workspace of its own, three jobs at once, one image that fails on purpose."""

import socket
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config, load_config
from pipeline.submit import drop
from pipeline.tools.clock import now
from pipeline.tools.files import make_folder, write_durably

FOLDER = Path("pipeline-demo")
OWNER = "demo"
REFUSED_SEED = 303  # of Alice's third image

CONFIG = f"""\
# Written by `pipeline demo`: "sketch" draws on this machine, without account or GPU.
default_owner: {OWNER}
gallery: {{port: {{port}}}}
store: {{type: local, folder: images}}
backends:
  sketch:
    type: sketch
    delay: 0.6                # seconds; a GPU takes longer
    concurrency: 4
    stagger: 0.1
    attempts: 1
    fail_seeds: [{REFUSED_SEED}]        # refused on purpose, to show a placeholder
"""


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job of the demo, and what it is called on the screen."""

    title: str
    text: str


JOBS = (
    DemoJob(
        "Mary in a garden",
        "character: Mary\nprompt: a portrait in a beautiful garden, morning light\nquantity: 8\nseed: 101\n"
        "width: 832\nheight: 1216\nlabels: [spring]\n",
    ),
    DemoJob(
        "John at the harbour",
        "character: John\nprompt:\n  - at the harbour, fishing boats at dusk\n  - on the sea under a full moon\n"
        "quantity: 2\nseed: 201\nwidth: 1216\nheight: 832\n",
    ),
    DemoJob(
        "Alice, one refused",
        "character: Alice\nprompt: walking through the mountains in autumn\nquantity: 5\nseed: 301\nwidth: 1024\nheight: 1024\n",
    ),
)


def free_port(wanted: int = 8787) -> int:
    """Return `wanted`, or a port that is free where another program has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the kernel hands out a free port when asked for any")


def prepare(folder: Path) -> Config:
    """Write the demo's configuration, with a port that is free now, and read it; the environment's accounts are ignored."""
    make_folder(folder)
    write_durably(folder / "pipeline.yaml", CONFIG.replace("{port}", str(free_port())).encode(), replace=True)
    return load_config(folder / "pipeline.yaml", environ={})


def drop_jobs(config: Config) -> dict[str, DemoJob]:
    """Drop the three jobs; return them by job id."""
    run = now()
    return {
        drop(config.jobs, f"id: demo-{run}-{i}\n{job.text}".encode(), f"demo-{run}-{i}.yaml").job_id: job
        for i, job in enumerate(JOBS, 1)
    }
