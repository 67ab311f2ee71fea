"""The main job's figures: the pipeline and what a user would pick instead, in turns within each round."""

from collections.abc import Sequence

from benchmarks.contenders import environment, running
from benchmarks.figures import Conditions, Figure
from benchmarks.main_job import Figures, Task, measured, pictures_of

QUEUES = tuple(running.WORKERS)
Rounds = Sequence[dict[str, Figures]]


def quick_images(conditions: Conditions) -> list[Figure]:
    """1 s images of 200 KB: makespan, CPU, memory, status requests."""
    rounds = _rounds(conditions, Task(images=100 if conditions.quick else 300))
    return [
        Figure("pipeline: makespan to the ideal", "x", _of(rounds, "pipeline", "ratio"), 1.12),
        *(Figure(f"{name}: makespan to the ideal", "x", _of(rounds, name, "ratio")) for name in running.NAMES),
        Figure("pipeline: makespan to the best contender's", "x", _to_best(rounds, "makespan", running.NAMES), 1.0),
        Figure("pipeline: status requests in its busiest second", "", _of(rounds, "pipeline", "most_looks_in_a_second"), 200),
        *_cost(rounds),
        Figure("pipeline: peak memory", "MB", _of(rounds, "pipeline", "memory_mb"), 200),
        *(Figure(f"{name}: peak memory", "MB", _of(rounds, name, "memory_mb")) for name in running.NAMES),
    ]  # fmt: skip


def large_images(conditions: Conditions) -> list[Figure]:
    """1 MB images: CPU."""
    return _cost(_rounds(conditions, Task(images=60 if conditions.quick else 200, kilobytes=1000)))


def slow_images(conditions: Conditions) -> list[Figure]:
    """10 s images: the pipeline's makespan."""
    task = Task(images=100 if conditions.quick else 300, seconds=10)
    rounds = _rounds(conditions, task, ("pipeline",))
    return [
        Figure("pipeline: makespan to the ideal", "x", _of(rounds, "pipeline", "ratio"), 1.03),
        Figure("pipeline: CPU an image", "ms", _of(rounds, "pipeline", "cpu_ms")),
    ]


def _cost(rounds: Rounds) -> list[Figure]:
    return [
        *(Figure(f"{name}: CPU an image", "ms", _of(rounds, name, "cpu_ms")) for name in ("pipeline", *running.NAMES)),
        Figure("pipeline: CPU to the best queue's", "x", _to_best(rounds, "cpu_ms", QUEUES), 0.5),
        Figure("pipeline: CPU to the script's", "x", _to_best(rounds, "cpu_ms", ("script",)), 1.7),
    ]


def _rounds(
    conditions: Conditions, task: Task, names: Sequence[str] = ("pipeline", *running.NAMES)
) -> list[dict[str, Figures]]:
    pictures_of(task)
    environment.python()
    for name in names:
        measured(Task(images=6, seconds=0.1, kilobytes=20), name)  # so that all bytecode is there
    found = []
    for _ in range(conditions.rounds):
        with conditions.quiet():
            found.append({name: measured(task, name) for name in names})
        for name, figures in found[-1].items():
            conditions.said(f"  {name:9} {figures}")
    return found


def _of(rounds: Rounds, name: str, what: str) -> list[float]:
    return [getattr(each[name], what) for each in rounds]


def _to_best(rounds: Rounds, what: str, others: Sequence[str]) -> list[float]:
    return [getattr(each["pipeline"], what) / min(getattr(each[name], what) for name in others) for each in rounds]
