"""Whose character a job means, which numbers it gets, and what adoption changes about that."""

import sqlite3

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from pipeline.catalogue import Catalogue
from pipeline.errors import IllegalStep
from pipeline.ledger import Declined, Duplicate, OwnerToAdopt, Taken
from pipeline.model import CharacterRef, PlannedImage, Recipe, State, Status
from tests.support.index import START, adopted, asset, by_id, images_of, job, make, open_index


def names(ledger, job_id):
    return [image.filename for image in images_of(ledger, job_id)]


async def test_a_job_gets_the_next_numbers_in_the_transaction_that_takes_it(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        verdicts = await ledger.accept([job("a", "Mary", 3), job("b", "Mary", 2), job("c", "John")])
        assert verdicts == [Taken("a"), Taken("b"), Taken("c")]
        assert names(ledger, "a") == ["mary_image_1", "mary_image_2", "mary_image_3"]
        assert names(ledger, "b") == ["mary_image_4", "mary_image_5"]
        assert names(ledger, "c") == ["john_image_1"]
        first = images_of(ledger, "b")[0]
        assert (first.public_id, first.place, first.seed) == ("me/characters/mary/images/mary_image_4", 0, 7)
        assert (first.state, first.quantity, first.owner, first.character_name) == (State.PLANNED, 2, "me", "Mary")


async def test_everything_a_job_says_comes_back_with_its_images(tmp_path):
    recipe = Recipe(width=832, negative_prompt="rain", cfg_scale=4.5, params={"big": 2**70, "on": True, "off": False})
    said = job("a", recipe=recipe, labels=("spring", "covers"), images=(PlannedImage("one", 1), PlannedImage("two", 9)))
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([said])
        images = images_of(ledger, "a")
        assert [(i.prompt, i.seed, i.place) for i in images] == [("one", 1, 0), ("two", 9, 1)]
        assert images[0].recipe == recipe
        assert images[0].labels == ("spring", "covers")


# What a job says about its character, after {id: 1, name: Mary} of "me" and {id: bob} of "alice" were seen.
RESOLVED = [
    ("bare name by slug", "MARY", None, "1"),
    ("bare name by id", "1", None, "1"),
    ("bare name, new", "John Doe", None, "john-doe"),
    ("bare name, its id is another owner's", "Bob", None, "bob-2"),
    ("bare name of the other owner", "bob", "alice", "bob"),
    ("exact id", by_id("1"), None, "1"),
    ("exact id, owner named rightly", by_id("1"), "me", "1"),
    ("exact id of a character whose owner is not the default", by_id("bob"), None, "bob"),
    ("exact id, new", by_id("mary"), None, "mary"),
    ("bare name in no script of ours", "美咲", None, "meixiao"),
]


@pytest.mark.parametrize(("character", "owner", "expected"), [case[1:] for case in RESOLVED], ids=str)
@pytest.mark.parametrize("when", ["before the listing", "after it"])
async def test_which_character_a_job_means(tmp_path, character, owner, expected, when):
    async with open_index(tmp_path) as ledger:
        if when == "after it":
            await adopted(ledger, "me", "alice")
        await ledger.accept([job("first", by_id("1", "Mary")), job("second", by_id("bob"), owner="alice")])
        [verdict] = await ledger.accept([job("third", character, owner=owner)])
        assert isinstance(verdict, Taken)
        if when == "before the listing":
            await adopted(ledger, "me", "alice")
        assert images_of(ledger, "third")[0].character_id == expected


@pytest.mark.parametrize("owners", [(), ("me", "alice")])
async def test_a_job_cannot_take_another_owners_character(tmp_path, owners):
    async with open_index(tmp_path) as ledger:
        for owner in owners:
            await ledger.adopt(owner, owner, [])
        await ledger.accept([job("a", by_id("1", "Mary"))])
        [verdict] = await ledger.accept([job("b", by_id("1"), owner="alice")])
        assert isinstance(verdict, Declined)
        assert verdict.reason.startswith('character "1" belongs to another owner than "alice"')
        assert not ledger.knows("b")


async def test_a_later_name_changes_only_what_is_displayed(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", by_id("1", "Mary")), job("b", by_id("1", "Maria"))])
        image = images_of(ledger, "b")[0]
        assert (image.character_name, image.filename) == ("Maria", "mary_image_2")


async def test_two_characters_of_one_slug_have_folders_of_their_own(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", by_id("1", "José")), job("b", by_id("2", "Jose")), job("c", "jose")])
        assert names(ledger, "a") == ["jose_image_1"]
        assert names(ledger, "b") == ["jose-2_image_1"]
        assert names(ledger, "c") == ["jose_image_2"]


# embedding of the job, `embedding: null`, of its character, remembered before -> what the images use
EMBEDDINGS = [
    (None, False, None, None, None),
    (None, False, None, "mary-v1", "mary-v1"),
    (None, False, "mary-v2", "mary-v1", "mary-v2"),
    ("own", False, "mary-v2", "mary-v1", "own"),
    (None, True, "mary-v2", "mary-v1", None),
]


@pytest.mark.parametrize(("own", "none", "named", "before", "used"), EMBEDDINGS)
@pytest.mark.parametrize("listed_first", [True, False])
async def test_which_embedding_a_job_uses(tmp_path, own, none, named, before, used, listed_first):
    async with open_index(tmp_path) as ledger:
        if listed_first:
            await adopted(ledger)
        recipe = Recipe(embedding=own, no_embedding=none)
        await ledger.accept([job("a", by_id("1", embedding=before))])
        await ledger.accept([job("b", by_id("1", embedding=named), recipe=recipe)])
        await ledger.accept([job("c", by_id("1", embedding="later"))])
        if not listed_first:
            await adopted(ledger)
        assert images_of(ledger, "b")[0].recipe.embedding == used


async def test_the_same_id_twice_makes_nothing(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        first = job("a", quantity=2)
        assert await ledger.accept([first, first]) == [Taken("a"), Duplicate()]
        assert await ledger.accept([first]) == [Duplicate()]
        [verdict] = await ledger.accept([job("a", quantity=2, digest="another")])
        assert isinstance(verdict, Declined)
        assert 'the id "a" was used before, by a job with different content' in verdict.reason
        assert len(ledger.images_where(character_id="mary")) == 2


@pytest.mark.parametrize("prompt", ["half a pair \ud83d", "fine"])
async def test_one_job_that_cannot_be_kept_spoils_no_other(tmp_path, prompt):
    seeds = 7 if "pair" in prompt else 2**64
    bad = job("bad", "New", images=(PlannedImage(prompt, seeds),))
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        verdicts = await ledger.accept([job("a"), bad, job("b")])
        assert [type(verdict) for verdict in verdicts] == [Taken, Declined, Taken]
        assert "cannot be kept" in verdicts[1].reason
        assert not ledger.knows("bad")
    assert Catalogue(tmp_path / "index.db").character("new") is None


# -- adoption


async def test_jobs_wait_unnumbered_until_their_owners_folder_was_listed(tmp_path):
    async with open_index(tmp_path) as ledger:
        jobs = [job("a", "Mary", 2), job("b", "Mary", owner="Älice"), job("c", "John"), job("d", "Mary", 3)]
        assert await ledger.accept(jobs) == [Taken(one.id) for one in jobs]
        assert ledger.owners_to_adopt() == [OwnerToAdopt("me", "me"), OwnerToAdopt("Älice", "alice")]
        assert ledger.unnumbered("me") == ["a", "c", "d"]
        assert ledger.turns() == []
        await ledger.adopt("me", "me", [])
        assert [turn.job_id for turn in ledger.turns()] == ["a", "c", "d"]
        assert [turn.planned for turn in ledger.turns_of("me")] == [2, 1, 3]
        assert names(ledger, "d") == ["mary_image_3", "mary_image_4", "mary_image_5"]
        assert ledger.owners_to_adopt() == [OwnerToAdopt("Älice", "alice")]
        assert images_of(ledger, "b") == []


async def test_new_images_go_on_after_the_highest_that_the_store_holds(tmp_path):
    async with open_index(tmp_path) as ledger:
        await ledger.accept([job("a", by_id("7", "Mary"), 2)])
        found = [
            asset("mary", 12, created_at=START - 5, seed=4, prompt="old"),
            asset("mary", 3, status=Status.PLACEHOLDER),
        ]
        await ledger.adopt("me", "me", found)
        assert names(ledger, "a") == ["mary_image_13", "mary_image_14"]
        adopted_image = ledger.image_by_number("7", 12)
        assert (adopted_image.state, adopted_image.job_id, adopted_image.place) == (State.DONE, "", 0)
        assert (adopted_image.created_at, adopted_image.seed, adopted_image.prompt) == (START - 5, 4, "old")
        assert adopted_image.stored == found[0].stored
        assert ledger.image_by_number("7", 3).state is State.PLACEHOLDER
        held = [number for number in range(1, 13) if ledger.image_by_number("7", number).state is State.REMOVED]
        assert held == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert Catalogue(tmp_path / "index.db").verify() == []


async def test_assets_wait_on_the_shelf_for_a_character_seen_later(tmp_path):
    async with open_index(tmp_path) as ledger:
        spare = asset("mary", 1, status=Status.PLACEHOLDER)
        await ledger.adopt(
            "me", "me", [spare, asset("mary", 1), asset("mary", 2), asset("mary", 2, created_at=1), asset("john", 1)]
        )
        await ledger.accept([job("a", by_id("9", "Mary"))])
        await ledger.accept([job("b", by_id("9", "Mary"))])
        assert names(ledger, "a") == ["mary_image_3"]
        assert names(ledger, "b") == ["mary_image_4"]
        assert ledger.image_by_number("9", 1).state is State.DONE
        assert ledger.image_by_number("9", 2).created_at == START - 1_000
        assert ledger.image_by_number("john", 1) is None


@pytest.mark.parametrize("listed_first", [True, False])
async def test_a_slug_whose_assets_carry_another_character_is_taken(tmp_path, listed_first):
    found = [asset("mary", 3, character_id="stranger"), asset("mary", 4), asset("mary-2", 1, character_id="stranger-2")]
    async with open_index(tmp_path) as ledger:
        if listed_first:
            await ledger.adopt("me", "me", found)
        await ledger.accept([job("a", "Mary"), job("b", "mary-3"), job("c", "Mary")])
        if not listed_first:
            await ledger.adopt("me", "me", found)
        assert names(ledger, "a") == ["mary-3_image_1"]
        assert names(ledger, "c") == ["mary-3_image_2" if not listed_first else "mary-3_image_3"]
        assert images_of(ledger, "c")[0].character_id == "mary"


async def test_assets_that_carry_the_characters_own_id_are_its_whatever_it_is_called_now(tmp_path):
    async with open_index(tmp_path) as ledger:
        await ledger.adopt("me", "me", [asset("mary", 3, character_id="9"), asset("maria", 1, character_id="9")])
        await ledger.accept([job("a", by_id("9", "Miriam"))])
        assert names(ledger, "a") == ["maria_image_2"]


async def test_an_absurd_number_in_the_store_is_left_alone(tmp_path):
    async with open_index(tmp_path) as ledger:
        await ledger.adopt("me", "me", [asset("mary", 999_999_999), asset("mary", 0), asset("mary", 2)])
        await ledger.accept([job("a", "Mary")])
        assert names(ledger, "a") == ["mary_image_3"]


async def test_a_folder_belongs_to_one_owner_and_is_listed_once(tmp_path):
    async with open_index(tmp_path) as ledger:
        await ledger.accept([job("a", owner="a@b"), job("b", "john", owner="a.b")])
        assert [owner.slug for owner in ledger.owners_to_adopt()] == ["a-b", "a-b"]
        await ledger.adopt("a@b", "a-b", [])
        assert ledger.owner_slug_taken("a-b")
        assert next(iter(ledger.folder_choices("a.b"))) == "a-b-2"
        with pytest.raises(IllegalStep, match=r'folder "a-b" belongs to owner "a@b", not to "a\.b"'):
            await ledger.adopt("a.b", "a-b", [])
        with pytest.raises(IllegalStep, match='owner "a@b" has the folder "a-b" already'):
            await ledger.adopt("a@b", "a-b-2", [])
        assert ledger.unnumbered("a.b") == ["b"]


async def test_a_job_withdrawn_before_it_has_numbers_holds_none(tmp_path):
    async with open_index(tmp_path) as ledger:
        await ledger.accept([job("a", quantity=3), job("b")])
        assert await ledger.withdraw("a")
        await adopted(ledger)
        assert names(ledger, "b") == ["mary_image_1"]
        assert not await ledger.withdraw("b")
        assert ledger.to_file(9) == ["a"]
    told = Catalogue(tmp_path / "index.db").result("a")
    assert (told["status"], told["cancelledCount"], told["images"]) == ("cancelled", 3, [])
    assert Catalogue(tmp_path / "index.db").verify() == []


# -- the property that everything else rests on

OWNERS = ["me", "alice", "bob"]
REFS = st.one_of(
    st.sampled_from(["Mary", "mary", "MARY!", "mary-2", "José", "jose", "a_image_1", "x"]).map(
        lambda name: CharacterRef(None, name)
    ),
    st.tuples(st.sampled_from(["1", "2", "mary", "jose"]), st.sampled_from([None, "Mary", "Jose"])).map(
        lambda pair: CharacterRef(*pair)
    ),
)
DROPS = st.tuples(
    st.just("job"), REFS, st.integers(1, 4), st.sampled_from([None, *OWNERS]), st.sampled_from(["me", "bob"])
)
ADOPTIONS = st.tuples(
    st.just("adopt"),
    st.sampled_from(OWNERS),
    st.lists(
        st.tuples(
            st.sampled_from(["mary", "jose", "mary-2"]),
            st.integers(1, 6),
            st.sampled_from([None, None, "1", "mary", "stranger"]),
        ),
        max_size=4,
    ),
)


def number_many(tmp_path_factory, stories, **more):
    @hypothesis.settings(max_examples=stories, deadline=None, **more)
    @hypothesis.given(steps=st.lists(st.one_of(DROPS, DROPS, ADOPTIONS), max_size=14))
    def numbered(steps):
        trio.run(_numbers_hold, tmp_path_factory.mktemp("index"), steps)

    numbered()


@pytest.mark.long
def test_numbers_are_dense_contiguous_and_in_arrival_order(tmp_path_factory):
    number_many(tmp_path_factory, 20)


@pytest.mark.torture
def test_numbers_are_dense_contiguous_and_in_arrival_order_in_many_stories(tmp_path_factory):
    number_many(tmp_path_factory, 500, derandomize=False, print_blob=True)


async def _numbers_hold(folder, steps):
    listed, accepted = set(), []
    async with open_index(folder) as ledger:
        for n, (kind, *step) in enumerate(steps):
            if kind == "job":
                ref, quantity, owner, default = step
                one = job(f"job-{n}", ref, quantity, owner=owner, default_owner=default)
                [verdict] = await ledger.accept([one])
                if isinstance(verdict, Taken):
                    accepted.append((one.id, quantity))
            elif step[0] not in listed:
                owner, found = step
                listed.add(owner)
                assets = [asset(slug, k, owner_slug=owner, character_id=c) for slug, k, c in found]
                await ledger.adopt(owner, owner, assets)
        for owner in OWNERS:
            if owner not in listed:
                await ledger.adopt(owner, owner, [])
        last: dict[str, int] = {}
        for job_id, quantity in accepted:
            images = images_of(ledger, job_id)
            start = images[0].number
            assert [image.number for image in images] == list(range(start, start + quantity))
            assert start > last.get(images[0].character_id, 0)
            last[images[0].character_id] = images[-1].number
            done = await make(ledger, images[0])
            assert ledger.image(done.row) == done
    _index_holds(folder / "index.db")


def _index_holds(path):
    connection = sqlite3.connect(path)
    for count, least, most in connection.execute(
        "SELECT count(*), min(number), max(number) FROM images GROUP BY character"
    ):
        assert (least, most) == (1, count)
    total, distinct = connection.execute("SELECT count(*), count(DISTINCT public_id) FROM images").fetchone()
    assert total == distinct
    connection.close()
    catalogue = Catalogue(path)
    assert catalogue.verify() == []
    catalogue.close()
