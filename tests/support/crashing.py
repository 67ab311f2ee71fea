"""A daemon that dies at its n-th durable step; run as a program: `python -m tests.support.crashing`.

The program imports everything once and forks for each run it is asked for, so hundreds of deaths take seconds. A run
is the whole daemon on real files. What it does to the disk is seen at the outermost edge, where Python hands it to the
operating system or to SQLite, and at the two ports; each such call is a step before it and a step after it.
"""

import functools
import json
import os
import re
import signal
import sqlite3
import sys
import threading
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from pipeline import daemon
from pipeline.backends.opening import open_backend
from pipeline.config import load_config
from pipeline.opening import Openers
from pipeline.spec.job import parse_job
from pipeline.stores.opening import open_store
from pipeline.tools import files
from tests.support.deaths import DIED, TOO_LONG

_CALLS = ("fsync", "fdatasync", "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "truncate")
_NOTHING_KEPT = re.compile(
    r"\s*(SELECT|WITH|BEGIN|SAVEPOINT|RELEASE|ROLLBACK|PRAGMA (?!journal_mode|wal_c|application))", re.IGNORECASE
)


class Disk:
    """What a power cut would leave: names whose folder was not flushed yet are as they were before, and of our own files
    whose bytes were not flushed only the names.
    """

    def __init__(self):
        self._unflushed = []  # the folder, and how to undo
        self._flushed = set()  # inodes whose bytes are on the disk
        self._written = {}  # by inode: the name under which a draft of ours was finished
        self._rename, self._truncate = os.replace, os.truncate

    def about_to(self, name, args):
        """Take note, before it happens, of what a call does to names."""
        if name == "renameat2":
            args = (os.fsdecode(args[1]), os.fsdecode(args[3]))
        if name in {"rename", "replace", "renameat2"}:
            source, target = map(Path, args)
            if source.name.endswith(".tmp"):
                self._written[source.stat().st_ino] = target
            before = target.read_bytes() if target.is_file() else None
            self._unflushed.append((target.parent, lambda: self._put_back(source, target, before)))
        elif name == "unlink" and Path(args[0]).is_file():
            path, data = Path(args[0]), Path(args[0]).read_bytes()
            self._unflushed.append((path.parent, lambda: path.exists() or path.write_bytes(data)))
        elif name == "fsync":
            flushed = Path(f"/proc/self/fd/{args[0]}").readlink()
            self._flushed.add(os.fstat(args[0]).st_ino)
            self._unflushed = [one for one in self._unflushed if one[0] != flushed]

    def lose_power(self):
        for inode, path in self._written.items():
            if inode not in self._flushed and path.exists() and path.stat().st_ino == inode:
                self._truncate(path, 0)
        for _, undo in reversed(self._unflushed):
            undo()

    def _put_back(self, source, target, before):
        if target.exists() and not source.exists():
            self._rename(target, source)
            if before is not None:
                target.write_bytes(before)


class Steps:
    """Counts, and ends the process at the chosen one as `kill -9` would: nothing is flushed, closed or cleaned up.

    At a negative one the power fails as well.
    """

    def __init__(self, die_at, report):
        self.names = []
        self._die_at = None if die_at is None else abs(die_at)
        self._disk = Disk() if die_at is not None and die_at < 0 else None
        self._report = report
        self._lock = threading.Lock()

    def __call__(self, name):
        with self._lock:
            self.names.append(name)
            if len(self.names) == self._die_at:
                self.tell()
                if self._disk is not None:
                    self._disk.lose_power()
                os._exit(DIED)

    def tell(self, **more):
        os.write(self._report, json.dumps({"steps": self.names, **more}).encode())

    def around(self, name, call):
        def stepping(*args, **kwargs):
            self(f"before {name}")
            if self._disk is not None:
                self._disk.about_to(name, args)
            try:
                return call(*args, **kwargs)
            finally:
                self(f"after {name}")

        return stepping

    def watch_the_system(self):
        """From here on this process counts what it does to the disk."""
        for name in _CALLS:
            setattr(os, name, self.around(name, getattr(os, name)))
        if files._renameat2 is not None:
            files._renameat2 = self.around("renameat2", files._renameat2)
        sqlite3.connect = self._connect(sqlite3.connect)

    def _connect(self, connect):
        step = self

        class Stepping(sqlite3.Connection):
            def execute(self, sql, *args):
                if _NOTHING_KEPT.match(sql) or (self.in_transaction and not sql.startswith("COMMIT")):
                    return super().execute(sql, *args)
                return step.around(" ".join(sql.split()[:3]), super().execute)(sql, *args)

            def __exit__(self, *error):
                return step.around("COMMIT", super().__exit__)(*error)

        def connecting(path, *args, **kwargs):
            factory = {} if path == ":memory:" else {"factory": Stepping}
            return connect(path, *args, **kwargs, **factory)

        return connecting

    def openers(self):
        """The real back ends and the real store, each answer of theirs between two steps."""

        @asynccontextmanager
        async def opening(settings, pace):
            async with open_backend(settings, pace) as backend:
                yield Stepping(backend, self, ("submit", "find", "collect", "cancel"))

        def opened(settings, *, public_url):
            return Stepping(open_store(settings, public_url=public_url), self, ("put", "remove"))

        return Openers(backend=opening, store=opened)


class Stepping:
    """An adapter, with steps around some of its calls."""

    def __init__(self, adapter, step, calls):
        self._adapter = adapter
        for name in calls:
            setattr(self, name, self._around(getattr(adapter, name), name, step))

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    @staticmethod
    def _around(call, name, step):
        async def stepping(*args, **kwargs):
            step(f"before {name}")
            try:
                return await call(*args, **kwargs)
            finally:
                step(f"after {name}")

        return stepping


def _run(folder, die_at, report):
    """One life of the daemon, in a process of its own; it ends at a step, or, with a fraction, after so many seconds."""
    log = os.open(folder / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    signal.setitimer(signal.ITIMER_REAL, die_at if isinstance(die_at, float) else TOO_LONG)  # nothing catches SIGALRM
    step = Steps(die_at, report)
    step.watch_the_system()
    config = load_config(folder / "pipeline.yaml", environ={})
    outcome = trio.run(functools.partial(daemon.run, config, once=True, patience=20.0, openers=step.openers()))
    step.tell(waiting=outcome.waiting, ended={str(state): n for state, n in outcome.ended.items()})


def _fork(folder, die_at):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            _run(folder, die_at, write)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent may run in its child
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(write)
    return pid, read


def _see_end(pid, read):
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), **json.loads(told or b'{"steps": []}')}


def _warm_up():
    """What a daemon loads and builds once, and each life would do for itself."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        file.write_text("gallery: {enabled: false}\n")
        load_config(file, environ={})
    parse_job(b"character: Mary\nprompt: in a garden\n", file="warm.yaml")
    for name in ("backends.a1111", "backends.comfyui", "backends.runpod", "backends.sketch", "stores.cloudinary"):
        import_module(f"pipeline.{name}")


def serve():
    """Answer each line of standard input, lives as folder and step to die at, with what became of them all."""
    _warm_up()
    for line in sys.stdin:
        running = [_fork(Path(folder), die_at) for folder, die_at in json.loads(line)]
        sys.stdout.write(json.dumps([_see_end(*one) for one in running]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
