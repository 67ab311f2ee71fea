"""One job with its images, and each image's history as the event rows tell it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.catalogue import Catalogue, GalleryRow, JobRow, NoticeRow, Step
from pipeline.cli.view.drawn import SPOILT, bar
from pipeline.cli.view.lines import plain
from pipeline.cli.view.overview import ended
from pipeline.tools.clock import rfc3339

LIVE_LINES = 12  # images that the live view has room for
_SAID_ELSEWHERE = {"limit", "file", "md5", "version"}  # what people do not look for in a history


class OneJob:
    """A job at one moment.

    Raises:
        KeyError: there is no such job.
    """

    def __init__(self, catalogue: Catalogue, job_id: str, prices: Mapping[str, float]) -> None:
        row = catalogue.job(job_id)
        if row is None:
            raise KeyError(job_id)
        self.row: JobRow = row
        self.images: Sequence[GalleryRow] = [catalogue.here(image) for image in catalogue.images_of(row)]
        self.over = row.status in {"done", "cancelled"} and not any(image.retrying for image in self.images)
        self._notices = catalogue.notices(job_id)
        self._catalogue = catalogue
        self._prices = prices

    def whole(self) -> RenderableType:
        """All of it, every image with its history."""
        parts = [self._head()]
        for image in self.images:
            parts.append(_image_line(image))
            parts += [Text(_step_line(step)) for step in self._catalogue.history(image.row)]
        return Group(*parts)

    def live(self) -> RenderableType:
        """What changes: how far it has come, and the images that somebody may be waiting for or should look at."""
        shown = [image for image in self.images if image.status == "running" or image.retrying or image.fault]
        latest = deque((image for image in self.images if image.status == "done"), LIVE_LINES)
        shown = sorted([*shown[-LIVE_LINES:], *latest], key=lambda image: image.number)[-LIVE_LINES:]
        progress = Text(f"{bar(ended(self.row), self.row.quantity, 40)}  {ended(self.row)}/{self.row.quantity}")
        return Group(self._head(), progress, *(_image_line(image) for image in shown))

    def lines(self) -> dict[str, str]:
        """A line for the job and one for each image that has begun, by what it is about."""
        begun = [image for image in self.images if image.status != "queued"]
        return {self.row.id: plain(self.row)} | {image.filename: _image_words(image) for image in begun}

    def _head(self) -> Text:
        row = self.row
        moments = [("accepted", row.created_at), ("started", row.started_at), ("finished", row.finished_at)]
        lines = [
            f"{row.id}  {plain(row)}  {row.character_name}",
            "  ".join(f"{word} {rfc3339(at) if at is not None else '-'}" for word, at in moments),
            *self._spent(),
            *(_notified(notice) for notice in self._notices),
        ]
        return Text("\n".join(lines))

    def _spent(self) -> Iterator[str]:
        gpu = sum(image.gpu_seconds for image in self.images)
        doubtful = sum(image.doubtful for image in self.images)
        cost = sum(image.gpu_seconds / 3600 * self._prices.get(image.backend or "", 0.0) for image in self.images)
        told = [f"{gpu:.1f} GPU s"] if gpu else []
        told += [f"${cost:.2f}"] if cost else []
        told += [f"maybe paid twice: {doubtful}"] if doubtful else []
        if told:
            yield " · ".join(told)


def _image_line(image: GalleryRow) -> Text:
    line = Text(f"{image.filename}  ")
    status, _, rest = _image_words(image).partition("  ")
    line.append(status, SPOILT if image.status == "placeholder" else "")
    return line.append(f"  {rest}" if rest else "")


def _image_words(image: GalleryRow) -> str:
    where = image.path or image.url or ""
    parts = (
        image.status,
        "retrying" if image.retrying else "",
        image.backend or "-",
        f"{image.attempts} attempts" if image.attempts > 1 else "",
        f"{image.gpu_seconds:.1f} GPU s" if image.gpu_seconds else "",
        f"{image.fault.code}: {image.fault.message}" if image.fault else where,
    )
    return "  ".join(part for part in parts if part)


def _step_line(step: Step) -> str:
    at = datetime.fromtimestamp(step.at / 1000).astimezone().strftime("%m-%d %H:%M:%S.%f")[:-3]
    told = dict(step.detail)
    parts = [f"{told.pop('code')}: {told.pop('message', '')}"] if "code" in told else []
    parts += [f"{key} {value}" for key, value in told.items() if value and key not in _SAID_ELSEWHERE]
    return f"    {at}  {step.event:<14}  {'  '.join(parts)}".rstrip()


def _notified(notice: NoticeRow) -> str:
    if notice.delivered_at is not None:
        return f"notified {notice.receiver} {rfc3339(notice.delivered_at)}"
    why = f": {notice.trouble}" if notice.trouble else ""
    if notice.next_at is None:
        return f"not notified {notice.receiver}: given up{why}"
    return f"not yet notified {notice.receiver}: next try {rfc3339(notice.next_at)}{why}"
