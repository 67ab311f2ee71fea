"""Tokens: made, listed, revoked, checked, over several processes, with nothing readable left on disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, UserError
from pipeline.gallery.tokens import Tokens


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "tokens"


def test_a_token_opens_its_owner_and_nothing_else(file):
    tokens = Tokens(file)
    alice, anyone = tokens.create("alice"), tokens.create(None)
    assert tokens.check(alice).owner == "alice"
    assert tokens.check(anyone).owner is None
    assert tokens.check(alice[:-1] + ("A" if alice[-1] != "A" else "B")) is None
    assert tokens.check(alice[:12] + anyone[12:]) is None  # one token's id with another's secret


@given(st.text(max_size=80))
def test_no_text_is_a_token_by_accident(text):
    assert Tokens(Path("/nonexistent/tokens")).check(text) is None


def test_only_the_hash_is_kept_and_only_the_user_may_read_it(file):
    secret = Tokens(file).create("alice", name="phone").split("_", 2)[2]
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert {p.name for p in file.parent.iterdir()} == {"tokens", "tokens.lock"}


def test_a_change_by_another_process_holds_at_once(file):
    reader = Tokens(file)
    token = reader.create("alice")
    assert reader.check(token)
    program = f"from pathlib import Path; from pipeline.gallery.tokens import Tokens; t = Tokens(Path({str(file)!r}));"
    made = subprocess.run(
        [sys.executable, "-c", program + "print(t.create('bob'))"], capture_output=True, text=True, check=True
    )
    assert reader.check(made.stdout.strip()).owner == "bob"
    subprocess.run([sys.executable, "-c", program + f"t.revoke({token!r})"], check=True)
    assert reader.check(token) is None


def test_many_processes_adding_at_once_lose_none(file):
    program = f"from pathlib import Path; from pipeline.gallery.tokens import Tokens; t = Tokens(Path({str(file)!r}));"
    makers = [
        subprocess.Popen([sys.executable, "-c", program + "[t.create('x') for _ in range(20)]"]) for _ in range(3)
    ]
    assert [m.wait() for m in makers] == [0, 0, 0]
    assert len(Tokens(file).records()) == 60


def test_an_expired_token_opens_nothing_and_is_forgotten_at_the_next_change(file):
    moment = [1_000_000]
    tokens = Tokens(file, now=lambda: moment[0])
    token = tokens.create("alice", seconds=10)
    moment[0] += 9_999
    assert tokens.check(token)
    moment[0] += 1
    assert tokens.check(token) is None
    assert tokens.records() == []
    tokens.create("bob")
    assert "alice" not in file.read_text()


def test_revoking_by_id_name_or_the_token_itself(file):
    tokens = Tokens(file)
    first, second = tokens.create("alice", name="phone"), tokens.create("alice", name="tablet")
    third = tokens.create("bob")
    assert tokens.revoke("phone").owner == "alice"
    assert tokens.revoke(second.split("_")[1]).name == "tablet"
    assert tokens.revoke(third).owner == "bob"
    assert [tokens.check(t) for t in (first, second, third)] == [None] * 3


def test_revoking_what_is_not_there_or_not_unique_says_so_without_the_secret(file):
    tokens = Tokens(file)
    token = tokens.create("alice", name="app")
    tokens.create("alice", name="app")
    with pytest.raises(UserError, match="2 tokens with the id or name 'app'"):
        tokens.revoke("app")
    tokens.revoke(token)
    with pytest.raises(UserError, match="token list") as caught:
        tokens.revoke(token)
    assert token.split("_", 2)[2] not in str(caught.value)


def test_refusing_takes_the_same_steps_whatever_is_wrong_with_a_token(file):
    moment = [1_000_000]
    tokens = Tokens(file, now=lambda: moment[0])
    good, expired = tokens.create("alice"), tokens.create("alice", seconds=1)
    moment[0] += 2_000
    assert tokens.check(good)  # the file has been read
    refused = {
        "of nobody": "pl_aaaaaaaa_" + good[12:],
        "with another secret": good[:12] + expired[12:],
        "expired": expired,
    }

    def steps(token):
        taken = []
        sys.setprofile(lambda _, event, what: taken.append(what.__name__) if event == "c_call" else None)
        try:
            assert tokens.check(token) is None
        finally:
            sys.setprofile(None)
        return [step for step in taken if step != "setprofile"]

    first, *others = (steps(token) for token in refused.values())
    assert "openssl_sha256" in first
    assert {"_compare_digest", "compare_digest"} & set(first)
    assert others == [first, first]


def test_a_lent_token_lives_in_this_process_alone(file):
    moment = [5_000]
    tokens = Tokens(file, now=lambda: moment[0])
    token = tokens.lend(None, seconds=60)
    assert tokens.check(token).owner is None
    assert tokens.records() == []
    assert not file.exists()
    assert Tokens(file).check(token) is None
    moment[0] += 60_000
    assert tokens.check(token) is None


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"tokens": [{"id": "x"}]}', b"\xff"])
def test_a_damaged_file_is_an_error_that_names_the_file_and_never_an_open_door(file, damage):
    tokens = Tokens(file)
    token = tokens.create("alice")
    file.write_bytes(damage)
    for use in (lambda: tokens.check(token), lambda: tokens.create("bob"), tokens.records):
        with pytest.raises(ConfigError, match=str(file)):
            use()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    tokens = Tokens(tmp_path / "state" / "tokens")
    with pytest.raises(ConfigError, match="tokens cannot be written"):
        tokens.create("alice")
    with pytest.raises(ConfigError, match="cannot be looked at"):
        tokens.records()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(file):
    tokens = Tokens(file)
    tokens.create("alice")
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens(file).records()


def test_a_removed_file_closes_every_door(file):
    tokens = Tokens(file)
    token = tokens.create("alice")
    file.unlink()
    assert tokens.check(token) is None
