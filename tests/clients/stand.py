"""The test stand: Doorward itself, the relays to it, and the checkers of its tokens."""

import asyncio
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "quiet-lamp-under-blue-stairs"
PATH = os.environ["PATH"]


PORTS = random.sample(range(20000, 32000), 12000)


def free_port():
    """Returns a free port outside the range for clients that was not returned before: it must still be free after a
    restart."""
    while True:
        port = PORTS.pop()
        with socket.socket() as free:
            if free.connect_ex(("127.0.0.1", port)) != 0:
                return port


def wait_for(what, holds, seconds):
    """Waits until `holds` is true. Returns the seconds that it took. Raises TimeoutError after the limit."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - begun


PROCESSES = []


def started(*args, **kwargs):
    PROCESSES.append(subprocess.Popen(*args, **kwargs))
    return PROCESSES[-1]


def end_all(*_):
    """Handles the time limit: kills every process that was started here."""
    for process in PROCESSES:
        if process.poll() is None:
            process.kill()
    os._exit(1)


class Doorward:
    """A server with a data directory of its own. Its clock may be some minutes behind the real one."""

    def __init__(self, work, **settings):
        self.home, self.port, self.process = work, free_port(), None
        self.data = work / "data"
        self.home.mkdir()
        self.settings = {
            "LOG_LEVEL": "warn",
            "PORT": str(self.port),
            "DATA_DIR": str(self.data),
            # These tests do not test guessing limits, and all clients share one address.
            "RATE_LIMITS_ALLOW": "127.0.0.0/8",
            "RATE_LIMITS_PRIVATE_ROUTES": "100000",
            **settings,
        }

    def environment(self, minutes_ago):
        then = {"LD_PRELOAD": os.environ["FAKETIME"], "FAKETIME": f"-{minutes_ago}m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {**self.settings, **(then if minutes_ago else {})}

    def start(self, minutes_ago=0):
        self.minutes_ago = minutes_ago
        with open(self.home / "doorward.txt", "a") as log:
            self.process = started(
                [os.environ["DOORWARD"]], cwd=self.home, env=self.environment(minutes_ago), stderr=log, stdin=subprocess.DEVNULL
            )
        wait_for("Doorward is ready", self.is_ready, 30)

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"Doorward ended with {self.process.returncode}")
        try:
            return self.call("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def command(self, *arguments):
        environment = self.environment(self.minutes_ago)
        subprocess.run([os.environ["DOORWARD"], *arguments], cwd=self.home, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def call(self, method, path, token=None, body=None, headers=(), form=None):
        """Returns status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = dict(headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        elif body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def must(self, method, path, *args, **kwargs):
        status, body = self.call(method, path, *args, **kwargs)
        if not 200 <= status < 300:
            raise AssertionError(f"{method} {path}: {status} {body}")
        return body

    def register(self, name):
        person = {"email": f"{name}@example.com", "nickname": name, "password": PASSWORD, "passphrase": "My first car was green"}
        return self.must("POST", "/register", body=person)["id"]

    def login(self, name):
        """Returns the answer of a successful login, with access_token and refresh_token."""
        return self.must("POST", "/login", body={"email": f"{name}@example.com", "password": PASSWORD})

    def jwks(self):
        return self.must("GET", "/.well-known/jwks.json")["keys"]


class Way:
    """A relay between one client and Doorward. It records the requests and can be cut."""

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def __init__(self, port):
        self.upstream, self.requests, self.open = port, [], set()
        # A path that this relay hides, and the bytes that replace it in requests.
        self.gone = None
        self.port, self.server, self.flows = free_port(), None, asyncio.Event()
        self.go_on()
        self.mend()
        self.url = f"http://127.0.0.1:{self.port}"

    async def connection(self, reader, writer):
        writers = [writer]
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            writers.append(upstream_writer)
            self.open.update(writers)
            pumps = self.pump(reader, upstream_writer, True), self.pump(upstream_reader, writer, False)
            await asyncio.wait([asyncio.ensure_future(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for writer in writers:
                self.open.discard(writer)
                writer.close()

    async def pump(self, reader, writer, asks):
        try:
            while data := await reader.read(65536):
                if asks:
                    self.requests += re.findall(r"^[A-Z]+ (\S+) HTTP/1", data.decode("latin-1"), re.M)
                    if gone := self.gone:
                        data = data.replace(*gone)
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass

    def cut(self):
        """Refuses new connections from now on and resets the open ones."""

        async def cut():
            self.server.close()
            for writer in list(self.open):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(cut(), self.loop).result()
        self.server = None

    def hang(self):
        """Keeps connections open from now on, but passes no data on."""
        self.loop.call_soon_threadsafe(self.flows.clear)

    def go_on(self):
        self.loop.call_soon_threadsafe(self.flows.set)

    def lose(self, path):
        """Hides this path from now on, until `find` is called."""
        self.gone = path.encode(), path.upper().encode()

    def find(self):
        self.gone = None

    def mend(self):
        if self.server:
            return
        start = asyncio.start_server(self.connection, "127.0.0.1", self.port)
        self.server = asyncio.run_coroutine_threadsafe(start, self.loop).result()

    def asked(self, beginning):
        return [path for path in self.requests if path.startswith(beginning)]


class Checker:
    """A program that checks tokens. `check(token)` returns (status, user or None)."""

    def __init__(self, name, doorward, service_token, home, cut=False, path="", **settings):
        self.name, self.way, self.log = name, Way(doorward.port), home / f"{name}.txt"
        if cut:
            self.way.cut()
        self.environment = {
            "PATH": PATH,
            "PYTHONDONTWRITEBYTECODE": "1",
            "DOORWARD_URL": self.way.url + path,
            "DOORWARD_SERVICE_TOKEN": service_token,
            "DOORWARD_ALGORITHM": doorward.settings["ALGORITHM"],
            **settings,
        }

    def popen(self, command, directory, **pipes):
        with open(self.log, "a") as log:
            self.process = started(command, cwd=directory, env=self.environment, stderr=log, **pipes)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Program(Checker):
    """A checker that is asked over its standard input."""

    def __init__(self, name, command, *args, **settings):
        super().__init__(name, *args, **settings)
        self.turn = threading.Lock()
        self.popen(command, self.log.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, question):
        with self.turn:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{self.name} gave up: {self.log.read_text()[-2000:]}")
        return json.loads(line)

    def check(self, token):
        told = self.ask({"check": token})
        return told["status"], told.get("user")

    def login(self, name):
        told = self.ask({"login": [f"{name}@example.com", PASSWORD]})
        assert told["status"] == 200, told
        return told["login"]


class Service(Checker):
    """One of the example services."""

    def __init__(self, name, command, directory, *args, **settings):
        super().__init__(name, *args, **settings)
        self.port = free_port()
        self.environment["PORT"] = str(self.port)
        self.popen([part.replace("PORT", str(self.port)) for part in command], directory, stdout=subprocess.DEVNULL)

    def get(self, path, headers):
        """Returns status, WWW-Authenticate header and body. `headers` are pairs."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest("GET", path)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers["WWW-Authenticate"], json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def is_listening(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        try:
            return self.get("/health/ready", []) is not None
        except OSError:
            return False

    def check(self, token, path="/me"):
        status, challenge, body = self.get(path, [("Authorization", f"Bearer {token}")])
        expected = {401: 'Bearer error="invalid_token"', 403: 'Bearer error="insufficient_scope"'}.get(status)
        if challenge != expected:
            return f"{status} with WWW-Authenticate {challenge}", None
        return status, body if status == 200 else None


def services(*args, **settings):
    integrations = ROOT / "docs" / "integrations"
    uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--port", "PORT", "--log-level", "warning"]
    return [
        Service("fastapi", uvicorn, integrations / "fastapi", *args, **settings),
        Service("express", ["node", "app.js"], os.environ["NODE_CLIENTS"], *args, **settings),
        Service("axum", [os.environ["AXUM_EXAMPLE"]], integrations, *args, **settings),
    ]


def programs(*args, **settings):
    here = ROOT / "tests" / "clients"
    return [
        Program("pyjwt", [sys.executable, str(here / "pyjwt_client.py")], *args, **settings),
        Program("jose", ["node", os.environ["NODE_CLIENTS"] + "/jose_client.mjs"], *args, **settings),
    ]


def at_once(work, items):
    """Runs `work` on all items concurrently and returns the results."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def copy_of(directory, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(directory, to)
