"""Programs that write job files all at once; each is a process of its own, so little is imported here."""

import os
import random
import time
from pathlib import Path

STEPS = 30  # files between two breaths of a writer


class Writer:
    """One program's files, each under a name of its own; `whole` must be taken once, `gone` at most once."""

    def __init__(self, jobs, number, files):
        self._jobs = Path(jobs)
        self._number = number
        self._files = files
        self._chance = random.Random(number)
        self.whole, self.gone = [], []

    def work(self):
        for n in range(self._files):
            token = f"w{self._number}-{n}"
            way = self._chance.choice(
                (self._rename, self._rename, self._at_once, self._in_parts, self._touch, self._delete)
            )
            way(token, f"character: c{self._number}\nprompt: {token}\n# the end of {token}\n".encode())
            if n % STEPS == 0:
                time.sleep(self._chance.random() * 0.02)
        return self.whole, self.gone

    def _at_once(self, token, text):
        (self._jobs / f"{token}.yaml").write_bytes(text)
        self.whole.append(token)

    def _rename(self, token, text):
        """From a draft beside it, now and then over several names."""
        draft = self._jobs / f".{token}.draft"
        draft.write_bytes(text)
        if self._chance.random() < 0.3:
            draft = draft.rename(self._jobs / f"{token}.yaml.part")
        draft.rename(self._jobs / f"{token}.yml")
        self.whole.append(token)

    def _in_parts(self, token, text):
        """A valid job lies there from the first part on: taken half, it would be another one."""
        with (self._jobs / f"{token}.yaml").open("wb", buffering=0) as file:
            middle = text.index(b"-") + 2  # in the middle of the prompt: `w3-1` of `w3-17`
            for part in (text[:middle], text[middle:-4], text[-4:]):
                file.write(part)
                if self._chance.random() < 0.1:
                    time.sleep(self._chance.random() * 0.3)
        self.whole.append(token)

    def _touch(self, token, text):
        path = self._jobs / f"{token}.yaml"
        self._at_once(token, text)
        for _ in range(3):
            try:
                os.utime(path)
                path.chmod(self._chance.choice((0o600, 0o644)))
            except FileNotFoundError:
                return

    def _delete(self, token, text):
        path = self._jobs / f"{token}.yaml"
        path.write_bytes(text)
        if self._chance.random() < 0.5:
            path.unlink(missing_ok=True)
        self.gone.append(token)


def write(jobs, number, files):
    return Writer(jobs, number, files).work()
