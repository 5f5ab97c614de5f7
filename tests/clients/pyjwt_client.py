"""A service that verifies access tokens with PyJWT and the published keys, and follows the feed as server-sent events.

Reads questions from standard input, one JSON object per line, and answers each with one object. `{"login": [email,
password]}` returns the answer of Doorward. `{"check": token}` returns `{"status": 200, "user": {…}}`, 401 for a token
that is not live, or 503 if the state is unknown. The environment contains its settings: see the last lines.
"""

import json
import os
import sys
import threading
import time

import httpx
import jwt

PAGE = 1000


class Feed:
    def __init__(self, url, service_token, silence):
        self.http = httpx.Client(base_url=url, headers={"X-Service-Token": service_token}, timeout=5)
        self.silence = silence
        self.keys_replaced = lambda: None
        self.begin_again()
        threading.Thread(target=self.follow, daemon=True).start()

    def begin_again(self):
        self.cursor, self.heard, self.ended, self.roles = "start", float("-inf"), set(), {}

    def up_to_date(self):
        return time.monotonic() - self.heard <= self.silence

    def take(self, event):
        if event["kind"] == "session_ended":
            self.ended.add(event["session_id"])
        elif event["kind"] == "role_changed":
            self.roles[event["account_id"]] = event["role"]
        elif event["kind"] == "keys_replaced":
            self.keys_replaced()

    def follow(self):
        while True:
            try:
                self.catch_up()
                self.listen()
            except (httpx.HTTPError, ValueError, KeyError) as error:
                print("feed:", repr(error), file=sys.stderr, flush=True)
            time.sleep(0.25)

    def catch_up(self):
        while True:
            answer = self.http.get("/revocations", params={"after": self.cursor})
            if answer.status_code in (410, 422):
                self.begin_again()
                self.keys_replaced()  # the lost events may have announced new keys
                continue
            page = answer.raise_for_status().json()
            for event in page["events"]:
                self.take(event)
            self.cursor = page["cursor"]
            if len(page["events"]) < PAGE:
                self.heard = time.monotonic()
                return

    def listen(self):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self.cursor}
        # Doorward sends a comment every 15 seconds.
        patience = httpx.Timeout(5, read=self.silence)
        with self.http.stream("GET", "/revocations", headers=headers, timeout=patience) as answer:
            answer.raise_for_status()
            number = None
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = line[4:]
                elif line.startswith("data: "):
                    self.take(json.loads(line[6:]))
                    self.cursor = number
                self.heard = time.monotonic()


class Tokens:
    def __init__(self, url, algorithm, feed, refetch):
        self.url, self.algorithm, self.feed, self.refetch = url, algorithm, feed, refetch
        self.forget_keys()
        feed.keys_replaced = self.forget_keys

    def forget_keys(self):
        url = f"{self.url}/.well-known/jwks.json"
        self.keys = jwt.PyJWKClient(url, lifespan=300, timeout=5, cooldown_duration=self.refetch)

    def check(self, token):
        if not self.feed.up_to_date():
            return {"status": 503}
        try:
            claims = jwt.decode(
                token,
                self.keys.get_signing_key_from_jwt(token),
                algorithms=[self.algorithm],
                issuer="doorward",
                audience="doorward",
                options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"]},
            )
            if jwt.get_unverified_header(token).get("typ") != "at+jwt":
                raise jwt.InvalidTokenError("not an access token")
        except jwt.PyJWKClientConnectionError:
            return {"status": 503}
        except jwt.PyJWTError as error:
            return {"status": 401, "why": repr(error)}
        if claims["sid"] in self.feed.ended:
            return {"status": 401, "why": "the session ended"}
        role = self.feed.roles.get(claims["id"], claims["role"])
        user = {"id": claims["id"], "nickname": claims["nickname"], "role": role, "session": claims["sid"]}
        return {"status": 200, "user": user}


def main():
    url, silence = os.environ["DOORWARD_URL"], float(os.environ["DOORWARD_SILENCE"])
    feed = Feed(url, os.environ["DOORWARD_SERVICE_TOKEN"], silence)
    tokens = Tokens(url, os.environ["DOORWARD_ALGORITHM"], feed, float(os.environ["DOORWARD_REFETCH"]))
    for line in sys.stdin:
        question = json.loads(line)
        if "login" in question:
            email, password = question["login"]
            answer = httpx.post(f"{url}/login", json={"email": email, "password": password})
            told = {"status": answer.status_code, "login": answer.json()}
        else:
            told = tokens.check(question["check"])
        print(json.dumps(told), flush=True)


main()
