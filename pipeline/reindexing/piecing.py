"""Whose is what: assets of the store and files of ended jobs put together into owners, characters, jobs and numbers."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from pipeline import naming
from pipeline.ledger.collecting import Folder, Traces
from pipeline.ledger.rebuilding import CharacterTold, JobTold, Rebuild
from pipeline.reindexing.ended import Ended, Place, arrival, ended_jobs, job_of, retold, spec_files, unresolved
from pipeline.spec.keys import Rules


@dataclass(slots=True)
class Pieced:
    """What was put together."""

    owners: set[str] = field(default_factory=set)
    characters: int = 0
    images: Counter[str] = field(default_factory=Counter)  # by status
    jobs: int = 0
    taken_anew: list[str] = field(default_factory=list)  # unfinished jobs, for the next `run`
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A job with the numbers that it holds."""

    ended: Ended
    place: Place | None
    numbers: tuple[int, ...]
    filed: bool
    seq: int = 0


def piece_together(rebuild: Rebuild, jobs: Path, rules: Rules, told: Callable[[int, int], None], moment: int) -> Pieced:
    """Restore all characters with their jobs and images, then the jobs that never had numbers.

    Args:
        rebuild: with the listing complete.
        jobs: the watched folder.
        rules: of the configuration.
        told: how many characters of how many are restored.
        moment: what rows that tell of no date are dated.
    """
    pieced = Pieced()
    folders = {(folder.owner_folder, folder.slug): folder for folder in rebuild.finds.folders()}
    claims = _Claims(rebuild, rules, pieced)
    claims.read(jobs)
    by_place = claims.by_place()
    people = _People(folders, by_place, rules)
    places = sorted(
        {*folders, *by_place}, key=lambda place: (_since(folders.get(place), by_place.get(place, [])), place)
    )
    rebuild.begin()
    for n, place in enumerate(places, 1):
        owner = people.owner(place[0])
        if owner is None:
            pieced.notes.append(
                f"{place[0]}/characters/{place[1]}: its owner has another folder already; its images are left out"
            )
            continue
        mine = by_place.get(place, [])
        retellings = [retold(claim.ended, rules, claim.seq, numbers=claim.numbers, filed=claim.filed) for claim in mine]
        character = _character(
            place, owner, people.character_id(place), folder=folders.get(place), jobs=retellings, moment=moment
        )
        pieced.images.update(rebuild.restore(character, retellings, moment))
        pieced.owners.add(owner)
        pieced.characters += 1
        pieced.jobs += len(mine)
        told(n, len(places))
    for claim in claims.unnumbered():
        _restore_unnumbered(rebuild, claim, rules, moment)
        pieced.jobs += 1
    return pieced


class _Claims:
    """Decides which numbers each job holds; the store's own word counts more than a file's."""

    def __init__(self, rebuild: Rebuild, rules: Rules, pieced: Pieced) -> None:
        self._rules = rules
        self._pieced = pieced
        self._traces: dict[str, Traces | None] = {}  # None: in several places, which no job of ours is
        self._made_by: dict[tuple[Place, int], str] = {}
        self._held: set[tuple[Place, int]] = set()
        self._claims: list[_Claim] = []
        for traces in rebuild.finds.traces():
            self._traces[traces.job_id] = None if traces.job_id in self._traces else traces
            place = (traces.owner_folder, traces.slug)
            self._made_by.update(((place, number), traces.job_id) for number in traces.numbers)

    def read(self, jobs: Path) -> None:
        """Go through the files of ended jobs, then unfinished ones, then the jobs that only assets tell of."""
        ended = sorted(ended_jobs(jobs / "done"), key=arrival)
        known = {one.job_id for one in ended}
        for one in ended:
            if one.result is not None:
                self._by_result(one)
        for one in ended:
            if one.result is None:
                self._by_traces(one, filed=False)
        for job_id, path in spec_files(jobs / "active").items():
            if job_id not in known:
                self._active(unresolved(job_id, path))
                known.add(job_id)
        for job_id, traces in self._traces.items():
            if job_id not in known and traces is not None:
                self._by_traces(Ended(job_id, None, traces.since, None, None), filed=True)
        self._claims.sort(key=lambda claim: arrival(claim.ended))

    def by_place(self) -> dict[Place, list[_Claim]]:
        """Jobs with numbers by character, in arrival order."""
        found: dict[Place, list[_Claim]] = {}
        for seq, claim in enumerate(self._claims, 1):
            if claim.place is not None:
                numbered = _Claim(claim.ended, claim.place, claim.numbers, claim.filed, seq)
                found.setdefault(claim.place, []).append(numbered)
        return found

    def unnumbered(self) -> Iterator[_Claim]:
        """Jobs whose ids are all that is kept."""
        for seq, claim in enumerate(self._claims, 1):
            if claim.place is None:
                yield _Claim(claim.ended, None, (), claim.filed, seq)

    def _by_result(self, ended: Ended) -> None:
        place = ended.place
        if place is None or not ended.numbers:
            self._hold(ended, None, (), filed=True)
        elif self._free(place, ended.numbers, ended.job_id, stored=ended.stored):
            self._hold(ended, place, ended.numbers, filed=True)
        else:
            self._pieced.notes.append(
                f"{ended.result}: other jobs made images that it claims; only its id is kept, so that it is not made twice"
            )
            self._hold(ended, None, (), filed=True)

    def _by_traces(self, ended: Ended, *, filed: bool) -> None:
        """From its first to its last image: a job's numbers are contiguous."""
        traces = self._traces.get(ended.job_id)
        if traces is not None:
            place = (traces.owner_folder, traces.slug)
            numbers = tuple(range(traces.numbers[0], traces.numbers[-1] + 1))
            if self._free(place, numbers, ended.job_id):
                self._hold(ended, place, numbers, filed=filed)
                return
        if ended.spec is not None:
            self._hold(ended, None, (), filed=True)

    def _active(self, ended: Ended) -> None:
        """One whose images all exist has ended, only its result was not written; any other is taken anew."""
        traces = self._traces.get(ended.job_id)
        if traces is not None and len(traces.numbers) == traces.numbers[-1] - traces.numbers[0] + 1:
            place = (traces.owner_folder, traces.slug)
            whole = len(traces.numbers) == len(job_of(ended, self._rules).images)
            if whole and self._free(place, traces.numbers, ended.job_id):
                self._hold(ended, place, traces.numbers, filed=False)
                return
        self._pieced.taken_anew.append(ended.job_id)

    def _free(self, place: Place, numbers: Iterable[int], job_id: str, stored: Collection[int] | None = None) -> bool:
        """Whether no other job holds these numbers, nor made what is `stored` under them (default: any of them)."""
        return all(
            (place, number) not in self._held
            and ((stored is not None and number not in stored) or self._made_by.get((place, number), job_id) == job_id)
            for number in numbers
        )

    def _hold(self, ended: Ended, place: Place | None, numbers: tuple[int, ...], *, filed: bool) -> None:
        if place is not None:
            self._held.update((place, number) for number in numbers)
        self._claims.append(_Claim(ended, place, numbers, filed))


class _People:
    """Whose a folder is, and which character's; nobody has two folders, and no id two characters."""

    def __init__(self, folders: Mapping[Place, Folder], jobs: Mapping[Place, list[_Claim]], rules: Rules) -> None:
        self._folders = folders
        self._jobs = jobs
        self._rules = rules
        self._owners: dict[str, str] = {}  # by folder
        self._ids: dict[Place, str] = {}
        taken: set[str] = set()
        told = {place: self._told_id(place) for place in (*folders, *jobs)}
        for place in sorted(
            told, key=lambda place: (told[place] is None, not self._answered(place, told[place]), place)
        ):
            self._ids[place] = _first_free(told[place] or place[1], taken)
            taken.add(self._ids[place])
        votes = self._votes()
        claims = {folder: self._told_owner(folder, votes) for folder in dict.fromkeys(place[0] for place in told)}
        given: set[str] = set()
        for folder in sorted(
            claims, key=lambda name: (claims[name] is None, name != naming.slugify(claims[name] or ""), name)
        ):
            owner = claims[folder] or self._by_name(folder)
            if owner not in given:
                self._owners[folder] = owner
                given.add(owner)

    def owner(self, folder: str) -> str | None:
        """Return whose a folder is; None where its owner has another one."""
        return self._owners.get(folder)

    def character_id(self, place: Place) -> str:
        """Return whose images lie in a folder."""
        return self._ids[place]

    def _told_id(self, place: Place) -> str | None:
        folder = self._folders.get(place)
        if folder is not None and folder.character_id is not None:
            return folder.character_id
        return next((claim.ended.character_id for claim in self._jobs.get(place, []) if claim.ended.character_id), None)

    def _answered(self, place: Place, character_id: str | None) -> bool:
        """Whether a result of this workspace gives the id: somebody relies on it, which no label of another's tells."""
        return any(claim.ended.character_id == character_id for claim in self._jobs.get(place, []))

    def _votes(self) -> dict[str, Counter[str]]:
        votes: dict[str, Counter[str]] = {}
        for (owner_folder, _), folder in self._folders.items():
            if folder.owner is not None:
                votes.setdefault(owner_folder, Counter())[folder.owner] += folder.images
        return votes

    def _told_owner(self, folder: str, votes: Mapping[str, Counter[str]]) -> str | None:
        if folder in votes:
            return votes[folder].most_common(1)[0][0]
        jobs = (claim for place, claims in self._jobs.items() if place[0] == folder for claim in claims)
        return next((owner for claim in jobs if (owner := job_of(claim.ended, self._rules).owner)), None)

    def _by_name(self, folder: str) -> str:
        default = self._rules.default_owner
        return default if naming.slugify(default) == folder else folder


def _first_free(wanted: str, taken: Collection[str]) -> str:
    return next(name for n in count(1) if (name := naming.with_suffix(wanted, n, length=64)) not in taken)


def _since(folder: Folder | None, claims: list[_Claim]) -> int:
    moments = [claim.ended.created_at for claim in claims]
    if folder is not None and folder.since is not None:
        moments.append(folder.since)
    return min(moments, default=0)


def _character(
    place: Place, owner: str, character_id: str, *, folder: Folder | None, jobs: list[JobTold], moment: int
) -> CharacterTold:
    """Names and embeddings are what the latest job said, else what the images tell."""
    refs = [told.job.character for told in jobs]
    renamed = [ref.name for ref in refs if ref.id is not None and ref.name is not None]
    first = [ref.name or ref.id for ref in refs if ref.name or ref.id]
    seen = folder.first_name if folder is not None and folder.first_name is not None else (first or [None])[0]
    last = renamed[-1] if renamed else (folder.last_name if folder is not None else None)
    embeddings = [ref.embedding for ref in refs if ref.embedding is not None]
    since = [told.created_at for told in jobs]
    if folder is not None and folder.since is not None:
        since.append(folder.since)
    return CharacterTold(
        id=character_id,
        name=last or seen or character_id,
        wish=naming.slugify(seen) if seen else place[1],
        owner=owner,
        owner_folder=place[0],
        slug=place[1],
        embedding=embeddings[-1] if embeddings else None,
        created_at=min(since, default=moment),
    )


def _restore_unnumbered(rebuild: Rebuild, claim: _Claim, rules: Rules, moment: int) -> None:
    told = retold(claim.ended, rules, claim.seq, numbers=(), filed=claim.filed)
    ref = told.job.character
    character_id = claim.ended.character_id or ref.id or naming.slugify(ref.name or claim.ended.job_id)
    rebuild.restore_unnumbered(told, character_id, rules.default_owner, moment)
