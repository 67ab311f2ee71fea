"""Who may see what: every route with every kind of credential, signed logins, and the ways round them that must fail."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pipeline.config import JwtConfig
from pipeline.errors import ConfigError
from pipeline.gallery.logins import Logins
from tests.support.windows import START, house

SECRET = "a secret of the app's own that is long enough"
PRIVATE = "/api/image-generation/character/mary /api/image-generation/character/mary/images/1/job /api/characters/mary /api/jobs/job-1 /media/alice/characters/mary/images/mary_image_1.png".split()  # noqa: SIM905 - one line
LISTS = ["/api/characters", "/api/jobs"]
OPEN = ["/healthz", "/readyz", "/openapi.json", "/", "/gallery/mary", "/assets/app.js", "/metrics"]


def login(key=SECRET, algorithm="HS256", headers=None, **claims):
    return jwt.encode(
        {"sub": "alice", "exp": int(time.time()) + 600, **claims}, key, algorithm=algorithm, headers=headers
    )


def unsigned(**claims):
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "alice", "exp": int(time.time()) + 600, **claims})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def credentials(home):
    """Each kind of credential with what it is worth: alice's, bob's, everybody's or nothing."""
    expired = home.tokens.create("alice", seconds=1)
    home.studio.moment += 2000
    revoked = home.tokens.create("alice")
    home.tokens.revoke(revoked)
    good = home.alice
    return {
        "none": (None, None),
        "empty": ("Bearer ", None),
        "wrong": ("Bearer pl_aaaaaaaa_" + "A" * 43, None),
        "rubbish": ("Bearer \x00\xff", None),
        "basic": (f"Basic {good}", None),
        "bare": (good, None),
        "cut": (f"Bearer {good[:-1]}", None),
        "longer": (f"Bearer {good}A", None),
        "two": (f"Bearer {good}, Bearer {good}", None),
        "expired": (f"Bearer {expired}", None),
        "revoked": (f"Bearer {revoked}", None),
        "other owner": (f"Bearer {home.tokens.create('bob')}", "bob"),
        "right": (f"Bearer {good}", "alice"),
        "lower case scheme": (f"bearer {good}", "alice"),
        "all owners": (f"Bearer {home.tokens.create(None)}", "*"),
        "lent": (f"Bearer {home.tokens.lend('alice', seconds=60)}", "alice"),
        "login": (f"Bearer {login()}", "alice"),
        "login of another": (f"Bearer {login(sub='bob')}", "bob"),
        "login of another key": (f"Bearer {login('x' * 40)}", None),
        "login without end": (f"Bearer {jwt.encode({'sub': 'alice'}, SECRET)}", None),
        "login expired": (f"Bearer {login(exp=int(time.time()) - 60)}", None),
        "login not yet": (f"Bearer {login(nbf=int(time.time()) + 60)}", None),
        "login of nobody": (f"Bearer {login(sub='')}", None),
        "login of a number": (f"Bearer {login(sub=7)}", None),
        "login of a path": (f"Bearer {login(sub='../alice')}", None),
        "login unsigned": (f"Bearer {unsigned()}", None),
        "login of another algorithm": (f"Bearer {login(algorithm='HS512', key='y' * 70)}", None),
        "login too long": (f"Bearer {login(pad='x' * 9000)}", None),
    }


async def test_the_matrix_of_routes_and_credentials(tmp_path):
    settings = {"jwt": JwtConfig(secret=SECRET)}
    async with house(tmp_path, settings=settings) as home:
        await home.studio.made("mary", n=1)
        await home.studio.made("eve", n=1, owner="bob")
        refusals, missing = set(), set()
        for name, (header, worth) in credentials(home).items():
            fields = {} if header is None else {"authorization": header.encode("latin-1")}
            for path in PRIVATE:
                for method in ("GET", "HEAD"):
                    answer = await home.client.request(method, path, headers=fields)
                    expected = 200 if worth in {"alice", "*"} else 404 if worth == "bob" else 401
                    assert answer.status_code == expected, (name, path)
                    if method == "GET" and expected == 401:
                        assert answer.headers["www-authenticate"] == "Bearer"
                        refusals.add((answer.content, tuple(answer.headers.items())))
                    elif method == "GET" and expected == 404:
                        missing.add((answer.content, tuple(answer.headers.items())))
            for path in LISTS:
                answer = await home.client.get(path, headers=fields)
                assert answer.status_code == (200 if worth else 401), (name, path)
                if worth:
                    (rows,) = [value for value in answer.json()["data"].values() if isinstance(value, list)]
                    assert {row["characterId"] for row in rows} == {
                        "alice": {"mary"},
                        "bob": {"eve"},
                        "*": {"mary", "eve"},
                    }[worth]
            for path in OPEN:
                assert (await home.client.get(path, headers=fields)).status_code == 200, (name, path)
        assert len(refusals) == 1  # nobody can tell a wrong token from an expired one
        assert len(missing) == 1


async def test_a_token_is_asked_for_before_anything_else_is_looked_at(tmp_path):
    async with house(tmp_path) as home:
        for path in ("/api/jobs?limit=0", "/api/jobs/nowhere", "/api/characters/nobody?limit=x", "/media/nothing.png"):
            assert (await home.client.get(path)).status_code == 401


async def test_two_authorization_headers_are_no_credential(tmp_path):
    async with house(tmp_path) as home:
        both = [("authorization", f"Bearer {home.alice}"), ("authorization", f"Bearer {home.alice}")]
        assert (await home.client.get("/api/jobs", headers=both)).status_code == 401


async def test_without_logins_configured_a_login_opens_nothing(tmp_path):
    async with house(tmp_path) as home:
        assert (await home.get("/api/jobs", login())).status_code == 401


async def test_a_damaged_token_file_opens_no_door(tmp_path):
    async with house(tmp_path) as home:
        (tmp_path / ".pipeline" / "tokens").write_bytes(b"[]")
        answer = await home.get("/api/jobs")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


# -- signed logins


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key, kid):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid}


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_a_public_key_checks_its_own_algorithm_and_is_no_secret(tmp_path, key, algorithm):
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key))
    logins = Logins(JwtConfig(key=file))
    assert logins.owner(login(key, algorithm)) == "alice"
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    body = login(key, algorithm).split(".")[1]
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(f"{head}.{body}".encode(), pem(key))
    confused = f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert logins.owner(confused) is None
    assert logins.owner(unsigned()) is None


def test_a_key_set_is_read_by_key_id_and_again_when_it_is_replaced(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(RSA, "one"), jwk(EC, "two")]}))
    logins = Logins(JwtConfig(jwks=file))
    assert logins.owner(login(RSA, "RS256", {"kid": "one"})) == "alice"
    assert logins.owner(login(EC, "ES256", {"kid": "two"})) == "alice"
    assert logins.owner(login(EC, "ES256")) == "alice"
    assert logins.owner(login(EC, "ES256", {"kid": "one"})) is None
    assert logins.owner(login(EC, "ES256", {"kid": "three"})) is None
    new = tmp_path / "new"
    new.write_text(json.dumps({"keys": [jwk(RSA, "three")]}))
    new.replace(file)
    assert logins.owner(login(EC, "ES256", {"kid": "two"})) is None
    assert logins.owner(login(RSA, "RS256", {"kid": "three"})) == "alice"
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        logins.owner(login(RSA, "RS256"))


@pytest.mark.parametrize(
    ("settings", "claims", "owner"),
    [
        ({"issuer": "https://login"}, {"iss": "https://login"}, "alice"),
        ({"issuer": "https://login"}, {"iss": "https://elsewhere"}, None),
        ({"issuer": "https://login"}, {}, None),
        ({"audience": ("gallery", "app")}, {"aud": ["x", "app"]}, "alice"),
        ({"audience": ("gallery",)}, {"aud": "other"}, None),
        ({"audience": ("gallery",)}, {}, None),
        ({}, {"aud": "anything", "iss": "anybody"}, "alice"),
        ({"owner_claim": "email"}, {"email": "bob@example.org"}, "bob@example.org"),
        ({"owner_claim": "email"}, {}, None),
        ({"leeway": 30}, {"exp": int(START / 1000)}, None),
        ({"leeway": 3600}, {"exp": int(time.time()) - 60}, "alice"),
    ],
)
def test_what_a_login_must_say(settings, claims, owner):
    assert Logins(JwtConfig(secret=SECRET, **settings)).owner(login(**claims)) == owner


def test_keys_that_cannot_be_used_are_named_at_the_start(tmp_path):
    file = tmp_path / "key"
    for content, settings, message in (
        (b"rubbish", {}, "neither a PEM public key nor"),
        (b"{}", {}, "neither a PEM public key nor"),
        (json.dumps({"keys": [jwk(EC, "two")]}).encode(), {"algorithm": "RS256"}, "no key for RS256"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            Logins(JwtConfig(key=file, **settings))
    assert SECRET not in repr(JwtConfig(secret=SECRET))


# -- other pages' scripts


async def test_no_other_origin_reads_answers_unless_it_is_configured(tmp_path):
    origin = {
        "origin": "https://app.example",
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    async with house(tmp_path) as home:
        assert (await home.client.options("/api/jobs", headers=origin)).status_code == 405
        assert "access-control-allow-origin" not in (await home.get("/api/jobs", origin="https://app.example")).headers
    async with house(tmp_path, settings={"cors": ("https://app.example",)}) as home:
        asked = await home.client.options("/api/jobs", headers=origin)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://app.example")
        answer = await home.get("/api/jobs", origin="https://app.example")
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "ETag" in answer.headers["access-control-expose-headers"]
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-origin" not in (await home.get("/api/jobs", origin="https://evil.example")).headers
        refused = await home.client.get("/api/jobs", headers={"origin": "https://app.example"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")
        assert (await home.client.options("/api/jobs")).status_code == 405
        for other in ({"origin": "https://evil.example"}, {"access-control-request-method": "POST"}):
            barred = await home.client.options("/api/jobs", headers=origin | other)
            assert (barred.status_code, barred.headers["allow"], barred.headers["vary"]) == (405, "GET, HEAD", "Origin")
            assert (barred.json()["success"], "access-control-allow-origin" in barred.headers) == (False, False)
