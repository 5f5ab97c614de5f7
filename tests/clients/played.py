"""Tests the middleware of docs/integrations against a simulated Doorward, whose answers come at the time and with the
faults that a check needs. This shows what happens between two answers, which a real Doorward sends too fast."""

import base64
import http.server
import json
import threading
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor

from cryptography.hazmat.primitives import serialization
from forge import new_key, signature, signed
from scenario import Scenario
from stand import services, wait_for

# The settings of the services in seconds: time without a message, and time between two fetches of the keys.
SILENCE, REFETCH = 3, 1
# The interval of heartbeats in the feed, in seconds.
HEARTBEAT = 0.5
# The time limit for an expected state of a service, in seconds.
SOON = 6
# Doorward may be served below a path, with or without a final slash.
BASE = "/auth"


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Does nothing: services may drop connections."""


class Stage:
    """Simulates Doorward. `turn` guards its whole state and is notified of every change."""

    def __init__(self):
        self.settings, self.turn = {"ALGORITHM": "EdDSA"}, threading.Condition()
        self.keys, self.published = {}, []
        # The revocation feed: cursors below `first` are invalid. The feed may be silent, or not readable from its
        # start.
        self.events, self.first, self.is_silent, self.starts = [], 0, False, True
        # While the keys are held back, requests for them wait. Each then gets the keys that were published when it was
        # sent.
        self.are_held, self.waiting, self.lost = False, 0, 0
        self.server = Server(("127.0.0.1", 0), self.handler())
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.change(are_held=False, is_silent=False, starts=True)
        self.server.shutdown()
        self.server.server_close()

    def change(self, **values):
        with self.turn:
            for name, value in values.items():
                assert hasattr(self, name), name
                setattr(self, name, value)
            self.turn.notify_all()

    def publish(self, *names):
        """Replaces the published keys."""
        for name in names:
            self.keys.setdefault(name, new_key("EdDSA"))
        self.change(published=list(names))

    def tell(self, kind, **about):
        self.change(events=[*self.events, {"kind": kind, "session_id": None, "account_id": None, **about}])

    def lose(self):
        """Invalidates every issued cursor and removes the events before it."""
        self.change(events=[], first=self.first + 1000, lost=0)

    def token(self, key, session):
        now = int(time.time())
        claims = {"iss": "doorward", "aud": "doorward", "sub": "7", "id": 7, "nickname": "ann", "role": "user", "sid": session}
        claims |= {"jti": str(uuid.uuid4()), "iat": now, "nbf": now, "exp": now + 1800}
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": key}
        return signed(header, claims, lambda message: signature(self.keys[key], "EdDSA", message))

    def jwks(self):
        def jwk(name):
            raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
            x = base64.urlsafe_b64encode(self.keys[name].public_key().public_bytes(*raw)).rstrip(b"=").decode()
            return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": x}

        with self.turn:
            answer = {"keys": [jwk(name) for name in self.published]}
            self.waiting += 1
            self.turn.notify_all()
            self.turn.wait_for(lambda: not self.are_held, 30)
            self.waiting -= 1
        return answer

    def news(self, after, seconds):
        """Returns the events after the cursor, or an empty list at the timeout, or None if the cursor is invalid."""
        with self.turn:
            self.turn.wait_for(lambda: self.starts or after != "start", 30)
            number = self.first if after == "start" else int(after)
            is_good = lambda: number >= self.first
            new = lambda: self.events[number - self.first :]
            self.turn.wait_for(lambda: not self.is_silent and (not is_good() or new()), seconds)
            self.turn.wait_for(lambda: not self.is_silent, 30)
            return (number, new()) if is_good() else None

    def handler(self):
        stage = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            wbufsize = -1

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                asked = dict(urllib.parse.parse_qsl(url.query))
                if url.path == f"{BASE}/.well-known/jwks.json":
                    self.answer(200, stage.jwks())
                elif url.path != f"{BASE}/revocations":
                    self.answer(404, {})
                elif "text/event-stream" in self.headers.get("Accept", ""):
                    self.stream(asked["after"])
                else:
                    told = stage.news(asked["after"], min(float(asked.get("wait", 0)), HEARTBEAT))
                    if told is None:
                        self.answer(410, {})
                        stage.change(lost=stage.lost + 1)
                    else:
                        number, events = told
                        self.answer(200, {"cursor": str(number + len(events)), "events": events})

            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def stream(self, after):
                self.close_connection = True
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                while told := stage.news(after, HEARTBEAT):
                    number, events = told
                    for event in events:
                        number += 1
                        self.wfile.write(f"id: {number}\ndata: {json.dumps(event)}\n\n".encode())
                    after = str(number)
                    self.wfile.write(b":\n\n")
                    self.wfile.flush()

            def log_message(self, *_):
                """Does nothing: the checks report what went wrong."""

        return Handler


class Played(Scenario):
    """Events that happen while the services wait for the keys."""

    def play(self):
        self.work.mkdir()
        self.doorward = self.stage = Stage()
        self.stage.publish("first")
        self.stage.tell("session_ended", session_id="ended")
        settings = {"DOORWARD_SILENCE": str(SILENCE), "DOORWARD_REFETCH": str(REFETCH)}
        self.checkers += services(self.stage, "the-token-of-the-service", self.work, path=f"{BASE}/", **settings)
        for service in self.checkers:
            wait_for(f"{service.name} listens", service.is_listening, 20)
        self.comes_to("ready, below a path", self.stage.token("first", "live"), 200)
        self.admits("a session that ended", self.stage.token("first", "ended"), status=401)
        self.begun_anew()
        self.silent()
        self.replaced()
        self.gap()

    def comes_to(self, what, token, status):
        self.comes(what, token, lambda answer: answer[0] == status, SOON)

    def awaiting_keys(self, token, act):
        """Runs `act` while all services wait for the keys, and returns their answers about the token."""
        time.sleep(REFETCH + 0.2)
        self.stage.change(are_held=True)
        with ThreadPoolExecutor(len(self.checkers)) as pool:
            answers = [pool.submit(checker.check, token) for checker in self.checkers]
            try:
                wait_for("all wait for the keys", lambda: self.stage.waiting == len(self.checkers), SOON)
                act()
            finally:
                self.stage.change(are_held=False)
            return list(zip(self.checkers, [answer.result()[0] for answer in answers]))

    def begun_anew(self):
        self.stage.publish("first", "second")
        ended = self.stage.token("second", "ended")

        def lose():
            self.stage.change(starts=False)
            self.stage.lose()
            wait_for("all are told", lambda: self.stage.lost >= len(self.checkers), SOON)
            time.sleep(0.2)

        for checker, seen in self.awaiting_keys(ended, lose):
            self.expect(f"what is remembered is given up while the keys come: {checker.name}", seen == 503, seen)
        self.stage.tell("session_ended", session_id="ended")
        self.stage.change(starts=True)
        self.comes_to("the feed has begun again", self.stage.token("second", "live"), 200)
        self.admits("the feed told again of a session that ended", ended, status=401)

    def silent(self):
        self.stage.publish("first", "third")
        live = self.stage.token("third", "live")

        def fall_silent():
            self.stage.change(is_silent=True)
            time.sleep(SILENCE + 0.6)

        for checker, seen in self.awaiting_keys(live, fall_silent):
            self.expect(f"the feed falls silent while the keys come: {checker.name}", seen == 503, seen)
        self.stage.change(is_silent=False)
        self.comes_to("the feed is heard again", live, 200)

    def replaced(self):
        self.stage.publish("first", "fourth")
        stolen = self.stage.token("fourth", "live")

        def replace():
            self.stage.publish("fifth")
            self.stage.tell("keys_replaced")
            time.sleep(4 * HEARTBEAT)

        # The keys that they wait for were published earlier.
        for checker, seen in self.awaiting_keys(stolen, replace):
            self.expect(f"the keys are replaced while the old ones come: {checker.name}", seen in (401, 503), seen)
        self.comes_to("the new key", self.stage.token("fifth", "live"), 200)
        self.comes_to("the old key", stolen, 401)

    def gap(self):
        """The lost events may have announced that all keys were replaced."""
        old = self.stage.token("fifth", "live")
        self.stage.publish("sixth")
        self.admits("nobody heard that the keys are others", old)
        self.stage.lose()
        self.comes_to("after a gap the old key counts no more", old, 401)
        self.comes_to("after a gap the new key counts", self.stage.token("sixth", "live"), 200)
