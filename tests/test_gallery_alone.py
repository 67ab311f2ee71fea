"""The gallery on its own server: real sockets, real signals, on asyncio; and a process as `pipeline serve` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from pipeline.config import INIT_TEMPLATE, load_config
from pipeline.errors import ConfigError
from pipeline.gallery.alone import serve_alone
from pipeline.gallery.listening import UNHURRIED, Deadlines, PortTaken
from pipeline.gallery.tokens import Tokens
from pipeline.ledger import open_ledger
from tests.support.waiting import inline, until
from tests.support.windows import House, house

HASTY = Deadlines(grace=0.5, idle=0.3, send=0.2)
PICTURE = "alice/characters/mary/images/mary_image_1.png"
LARGE = 40_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")

    async def fill():
        async with house(folder) as made:
            await made.studio.made(n=2)
            return made.studio

    return House(trio.run(fill))


@pytest.fixture
def app(home):
    made = House(home.studio)
    yield made
    made.catalogue.close()


def served(home, visit, *, deadlines=UNHURRIED, end=signal.SIGTERM):
    """Serve in the main thread, where signals arrive; `visit(client, port)` runs in another and then it is stopped."""
    result = Future()

    def go(port):
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {home.alice}"}, timeout=20
            ) as client:
                result.set_result(visit(client, port))
        except BaseException as error:  # noqa: BLE001  told to the test
            result.set_exception(error)
        finally:
            os.kill(os.getpid(), end)

    serve_alone(
        home.app,
        "127.0.0.1",
        0,
        listening=lambda port: threading.Thread(target=go, args=(port,)).start(),
        deadlines=deadlines,
    )
    return result.result(5)


def spoken(port, text, *, part=65536):
    """Send bytes as they are and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        answer = b""
        try:
            line.sendall(text.encode("latin-1"))
            while chunk := line.recv(part):
                answer += chunk
        except ConnectionError:
            pass
        return answer.decode("latin-1")


def test_the_essential_routes_and_its_middleware_run_on_it(app):
    def visit(client, port):
        gallery = client.get(app.images())
        assert gallery.json()["data"]["totalCount"] == 2
        assert "server" not in gallery.headers
        assert gallery.headers["content-encoding"] == "gzip"
        again = client.get(app.images(), headers={"if-none-match": gallery.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = client.head(app.images(), headers={"accept-encoding": "identity"})
        assert int(head.headers["content-length"]) > 500
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/gallery/mary", 200), ("/assets/page.css", 200), ("/x", 404)):  # fmt: skip
            assert client.get(path).status_code == status
        assert client.post("/api/jobs", content=b"x" * 200_000).headers["allow"] == "GET, HEAD"
        assert client.get(app.images(), headers={"authorization": "Bearer pl_no"}).status_code == 401
        address = gallery.json()["data"]["images"][0]["url"].removeprefix("http://testserver")
        picture = client.get(address, headers={"authorization": ""})
        assert picture.content.startswith(b"\x89PNG")
        part = client.get(address, headers={"authorization": "", "range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"PNG")
        return client.get("/metrics", headers={"authorization": "", "x-forwarded-for": "127.0.0.1"}).status_code

    assert served(app, visit) == 401


def test_a_held_answer_comes_when_something_changes_and_when_the_server_stops(app):
    answers = []

    def hold(port, tag):
        headers = {"authorization": f"Bearer {app.alice}", "if-none-match": tag}
        answer = httpx.get(f"http://127.0.0.1:{port}{app.images()}?wait=100", headers=headers, timeout=20)
        answers.append((answer.status_code, answer.json()["data"]["totalCount"] if answer.content else None))

    async def another():
        async with open_ledger(app.studio.folder / ".pipeline" / "index.db", run_sync=inline) as ledger:
            app.studio.ledger = ledger
            await app.studio.made(n=1)

    def visit(client, port):
        tag = client.get(app.images()).headers["etag"]
        threads = [threading.Thread(target=hold, args=(port, tag)) for _ in range(2)]
        for thread in threads:
            thread.start()
        held(app, 2)
        trio.run(another)
        for thread in threads:
            thread.join(10)
        tag = client.get(app.images()).headers["etag"]
        last = threading.Thread(target=hold, args=(port, tag))
        last.start()
        held(app, 1)
        return last

    served(app, visit, end=signal.SIGINT).join(10)
    assert answers == [(200, 3), (200, 3), (304, None)]


def held(app, n):
    deadline = time.monotonic() + 10
    while app.app._changes.waiting < n and time.monotonic() < deadline:
        time.sleep(0.01)  # what happens in the server's thread makes no event here


def test_the_log_has_paths_and_never_queries_or_tokens(app):
    def visit(client, port):
        client.get("/api/none%0a?q=secret-words")
        client.get("/media/x.png?signature=secret-words", headers={"authorization": ""})

    with capture_logs() as lines:
        served(app, visit)
    told = [(line["path"], line["status"], line["client"]) for line in lines if line["event"] == "request"]
    assert told == [("/api/none%0a", 404, "127.0.0.1"), ("/media/x.png", 401, "127.0.0.1")]
    assert "secret-words" not in repr(lines)
    assert app.alice.split("_", 2)[2] not in repr(lines)


def test_a_defect_is_told_once_and_ends_one_answer_alone(app):
    def broken(*_):
        raise ZeroDivisionError

    app.app._app = broken  # beneath everything, where no handler of ours can be

    with capture_logs() as lines:
        status = served(app, lambda client, port: client.get("/healthz").status_code)
    assert status == 500
    assert [line["event"] for line in lines] == ["connection_broken", "request"]


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("\x00\xff\xfe\r\n\r\n", "HTTP/1.1 400"),
        ("GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish", "HTTP/1.1 4"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: " + "y" * 70_000, "HTTP/1.1 431"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", ""),
        ("", ""),
        ("GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "HTTP/1.1 404"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow:", "HTTP/1.1 200"),
    ],
)  # fmt: skip
def test_rubbish_and_endless_heads_end_their_own_connection(app, text, answered):
    def visit(client, port):
        started = time.monotonic()
        answer = spoken(port, text)
        assert time.monotonic() - started < 5
        assert client.get("/healthz").status_code == 200
        return answer

    answer = served(app, visit, deadlines=HASTY)
    assert answer.startswith(answered)
    assert answer or not answered
    assert answer.count("HTTP/1.1 ") <= 1
    if answered.startswith("HTTP/1.1 4"):
        assert json.loads(answer.partition("\r\n\r\n")[2])["success"] is False


def test_bytes_that_trickle_in_do_not_put_the_end_off(app):
    def visit(client, port):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            sent = 0
            try:
                while sent < 500:
                    line.sendall(b"y")
                    sent += 1
                    time.sleep(0.01)
            except ConnectionError:
                pass
            return sent

    assert served(app, visit, deadlines=HASTY) < 300


def asked(app, port, more=""):
    """A connection that has asked for the picture, with little room for it on this side."""
    line = socket.socket()
    line.settimeout(10)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    line.connect(("127.0.0.1", port))
    line.sendall(
        f"GET /media/{PICTURE} HTTP/1.1\r\nHost: x\r\n{more}Authorization: Bearer {app.alice}\r\n\r\n".encode()
    )
    return line


def open_sockets():
    """How many this process has, the server's among them."""
    return sum(handle.is_socket() for handle in Path("/proc/self/fd").iterdir())


def rest(line):
    got = 0
    try:
        while chunk := line.recv(1 << 20):
            got += len(chunk)
    except ConnectionError:
        pass
    return got


@pytest.mark.parametrize("closing", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("stop_early", [True, False])
def test_a_client_that_takes_nothing_any_more_is_given_up(app, closing, stop_early):
    app.studio.store.folder.joinpath(PICTURE).write_bytes(b"x" * LARGE)

    def answered():
        return any(line["event"] == "request" for line in lines)

    def visit(client, port):
        before = open_sockets()
        with asked(app, port, closing) as line:
            got = 0
            while not answered():
                if stop_early or got > LARGE - 1_000_000:
                    time.sleep(0.01)
                if not stop_early:
                    got += len(line.recv(32 * 1024))
            until(lambda: open_sockets() == before + 1)  # the line's own: the server's end of it is closed
            return got + rest(line)

    with capture_logs() as lines:
        assert 0 < served(app, visit, deadlines=HASTY) < LARGE


def test_a_client_that_takes_slowly_gets_all_of_it(app):
    app.studio.store.folder.joinpath(PICTURE).write_bytes(b"x" * LARGE)

    def visit(client, port):
        with asked(app, port, "Connection: close\r\n") as line:
            got = slow = 0
            while chunk := line.recv(1 << 20):
                got += len(chunk)
                if got > LARGE // 2 and slow < 60:
                    slow += 1
                    time.sleep(0.02)
            return got

    assert served(app, visit, deadlines=HASTY) > LARGE


def test_a_client_that_takes_nothing_holds_up_no_stop(app):
    app.studio.store.folder.joinpath(PICTURE).write_bytes(b"x" * LARGE)
    lines = []

    def visit(client, port):
        line = asked(app, port)
        assert line.recv(10)
        lines.append(line)

    started = time.monotonic()
    served(app, visit, deadlines=Deadlines(grace=0.3))
    assert time.monotonic() - started < 8
    lines[0].close()


def test_a_taken_port_and_a_foreign_address_are_named(app):
    def never(port):
        raise AssertionError(port)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken, match="taken by another program"):
            serve_alone(app.app, "127.0.0.1", taken.getsockname()[1], listening=never)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ConfigError, match=host):
            serve_alone(app.app, host, 0, listening=never)


def test_the_command_does_not_say_that_it_listens_where_it_cannot(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "pipeline", "serve", "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "taken by another program" in ended.stderr
    assert "listens" not in ended.stderr


@pytest.mark.parametrize(("number", "used_before"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_the_command_serves_until_a_signal_and_ends_well(tmp_path, number, used_before):
    (tmp_path / "pipeline.yaml").write_text(INIT_TEMPLATE)
    config = load_config(tmp_path / "pipeline.yaml", environ={})

    async def fill():
        async with open_ledger(config.state / "index.db"):
            pass

    if used_before:
        config.state.mkdir(parents=True)
        trio.run(fill)
    command = [sys.executable, "-m", "pipeline", "serve", "--host", "localhost", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = [server.stderr.readline(), server.stderr.readline()]
            assert "only programs on this machine" in said[0]
            address = said[1].removeprefix("serving at ").strip()
            token = Tokens(config.state / "tokens").create("me")
            answer = httpx.get(f"{address}api/jobs?limit=7", headers={"authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["success"]) == ((200, True) if used_before else (503, False))
            server.send_signal(number)
            rest = server.stderr.read()
            assert server.wait(10) == 0
        finally:
            server.kill()
    assert '"path": "/api/jobs"' in rest
    assert "limit" not in rest
    assert "Traceback" not in rest
