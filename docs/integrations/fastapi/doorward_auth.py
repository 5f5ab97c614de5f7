"""Doorward's users in a FastAPI service. Copy this file; app.py beside it shows how it is used.

`Offline` checks tokens with Doorward's published keys and follows its revocation feed, so that no request waits for Doorward.
`Asking` asks `/verify` about each one: for tokens that a secret signs (HS256), or where a token is seldom seen twice.

Both answer 401 without a live token, 403 without the role, and 503 while it cannot be known whether a token is live.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from dataclasses import dataclass

import httpx
import jwt
from fastapi import Depends, HTTPException, Request

log = logging.getLogger("doorward")

# What Doorward puts into every access token (docs/tokens.md).
CLAIMS = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "id", "nickname", "role"]
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
LEEWAY = 5  # seconds that the two clocks may differ
PAGE = 1000  # events that an answer of the feed has at most
WAIT = 15  # seconds after which the feed answers though nothing happened: its heartbeat


@dataclass(frozen=True)
class User:
    id: int
    nickname: str
    role: str
    session: str


class Dead(Exception):
    """The token is not one that is live."""


class Unknown(Exception):
    """Nobody can say at the moment whether the token is live."""


def reason(error):
    """What may be logged of a failure. Not its text: that can hold a token."""
    return f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__


class Guard:
    """What a route depends on. A subclass says whose token it is, in `check`."""

    async def check(self, token: str) -> User:
        raise NotImplementedError

    async def user(self, request: Request) -> User:
        """The user of the request, also as `request.state.user`."""
        headers = request.headers.getlist("Authorization")
        scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(401, "Log in first", {"WWW-Authenticate": "Bearer"})
        try:
            # Nothing else can be live, and some of it could not even be asked about.
            if not TOKEN.fullmatch(token.strip()):
                raise Dead
            request.state.user = await self.check(token.strip())
        except Dead:
            # Why is nobody's business; the log of Doorward knows.
            raise HTTPException(401, "Log in again", {"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None
        except Unknown:
            # Not 401: the token may be good, and its owner need not log in anew.
            raise HTTPException(503, "Come back in a moment", {"Retry-After": "5"}) from None
        return request.state.user

    def role(self, role: str):
        """A dependency that lets nobody pass without this role."""

        async def user_with_role(user: User = Depends(self.user)) -> User:
            if user.role != role:
                raise HTTPException(403, "Not for you", {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
            return user

        return user_with_role


class Offline(Guard):
    """Use it with `async with`, for as long as the service runs.

    url            Doorward, as this service reaches it
    service_token  one with the scope `revocations`
    algorithm      Doorward's ALGORITHM: EdDSA, ES256 or RS256, and no other is accepted
    longest_token  Doorward's ACCESS_TOKEN_EXPIRE_MINUTES, in seconds. A revocation is remembered for as long
    silence        after how many seconds without a word of the feed no token is trusted. So long may a revoked token
                   live if the way to Doorward is cut. 45 are three heartbeats: one may get lost, and a restart of
                   Doorward goes unnoticed
    refetch        how often, in seconds, tokens that name an unknown key can make us fetch the keys
    """

    def __init__(
        self,
        url,
        service_token,
        algorithm,
        *,
        issuer="doorward",
        audience="doorward",
        longest_token=1800,
        silence=45,
        refetch=30,
    ):
        self.algorithm, self.issuer, self.audience = algorithm, issuer, audience
        self.longest_token, self.silence, self.refetch = longest_token, silence, refetch
        self.doorward = httpx.AsyncClient(base_url=url, timeout=5, headers={"X-Service-Token": service_token})
        self.keys, self.keys_told, self.keys_tried = {}, False, float("-inf")
        self.fetching = asyncio.Lock()
        self.forget()

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.keep_keys()), asyncio.create_task(self.keep_up())]
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.doorward.aclose()

    async def check(self, token):
        if not self.up_to_date():
            raise Unknown
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != "at+jwt":
                raise Dead
            claims = jwt.decode(
                token,
                await self.key(header.get("kid")),
                algorithms=[self.algorithm],  # never what the header says
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY,
                options={"require": CLAIMS, "strict_aud": True},
            )
        except jwt.PyJWTError:
            raise Dead from None
        # While the keys were waited for, the feed may have fallen silent, or what is remembered may have been given up.
        if not self.up_to_date():
            raise Unknown
        # One that is older than it can be would outlive our memory of revocations.
        age = time.time() - claims["iat"]
        if age > self.longest_token + LEEWAY or claims["sid"] in self.revoked:
            raise Dead
        # A role that changed since the token was issued counts, not the one in it.
        _, role = self.revoked.get(claims["id"], (None, claims["role"]))
        return User(claims["id"], claims["nickname"], role, claims["sid"])

    # The keys.

    async def key(self, kid):
        if kid not in self.keys:
            async with self.fetching:  # others that name the same new key wait for the same answer
                if kid not in self.keys and time.monotonic() - self.keys_tried > self.refetch:
                    await self.fetch_keys()
        if kid not in self.keys:
            raise Dead if self.keys_told else Unknown
        return self.keys[kid]

    async def fetch_keys(self):
        # The caller holds `fetching`, so that no older answer takes the place of a newer one.
        # Noted before the answer: one that fails must not be asked for by every request either.
        self.keys_tried = time.monotonic()
        try:
            # What a cache on the way has may be from before the keys were replaced.
            answer = await self.doorward.get("/.well-known/jwks.json", headers={"Cache-Control": "no-cache"})
            answer.raise_for_status()
            self.keys = {key["kid"]: jwt.PyJWK(key) for key in answer.json()["keys"]}
            self.keys_told = True
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            self.keys_told = False
            log.warning("the keys of Doorward cannot be fetched, those that are known stay: %s", reason(error))

    async def replace_keys(self):
        # Somebody else may have the old ones: nobody passes by them, even if the new ones cannot be had, and not by an
        # answer either that is under way. So nothing is trusted until the feed was heard once more.
        self.heard = float("-inf")
        async with self.fetching:
            self.keys, self.keys_told = {}, False
            await self.fetch_keys()
        if not self.keys_told:
            raise ValueError("the new keys are not here yet")  # the feed tells of them again

    async def keep_keys(self):
        while True:
            async with self.fetching:
                await self.fetch_keys()
            await asyncio.sleep(300 if self.keys_told else 5)  # 300: what Cache-Control says

    # The revocation feed.

    def forget(self):
        self.cursor, self.heard = "start", float("-inf")
        self.wait = 0  # what was missed is asked for without waiting for more
        self.revoked = OrderedDict()  # sessions that ended, and new roles of accounts; the oldest first

    def up_to_date(self):
        return time.monotonic() - self.heard <= self.silence

    async def keep_up(self):
        pause = 0.25
        while True:
            try:
                await self.listen()
                pause = 0.25
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                log.warning("no word of revocations: %s", reason(error))
                self.wait = 0
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5)

    async def listen(self):
        asked = {"after": self.cursor, "wait": self.wait}
        answer = await self.doorward.get("/revocations", params=asked, timeout=self.wait + 5)
        # 410: some of what we missed is gone. 422: this is the log of another data directory.
        if answer.status_code in (410, 422) and self.cursor != "start":
            log.warning("the feed begins again")
            # What is gone may have told that all keys were replaced.
            await self.replace_keys()
            self.forget()
            return
        answer.raise_for_status()
        page = answer.json()
        for event in page["events"]:
            self.take(event)
        if any(event["kind"] == "keys_replaced" for event in page["events"]):
            await self.replace_keys()
        self.cursor = page["cursor"]
        if len(page["events"]) < PAGE:  # else there is more, and we are behind
            self.heard, self.wait = time.monotonic(), WAIT

    def take(self, event):
        now = time.monotonic()
        if event["kind"] == "session_ended":
            self.revoked[event["session_id"]] = now, None
        elif event["kind"] == "role_changed":
            self.revoked[event["account_id"]] = now, event["role"]
            self.revoked.move_to_end(event["account_id"])
        # Nothing is left to do for account_locked and account_deleted: each of its sessions was named before.
        while self.revoked and next(iter(self.revoked.values()))[0] < now - self.longest_token - 60:
            self.revoked.popitem(last=False)  # no token is alive that was issued before this


class Asking(Guard):
    """service_token: one with the scope `verify`."""

    def __init__(self, url, service_token):
        self.doorward = httpx.AsyncClient(base_url=url, timeout=5, headers={"X-Service-Token": service_token})

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.doorward.aclose()

    async def check(self, token):
        try:
            answer = await self.doorward.post("/verify", headers={"Authorization": f"Bearer {token}"})
            if answer.status_code in (401, 431):  # 431: no live token is that long
                raise Dead
            answer.raise_for_status()  # 404 and 403 are about our own token, 503 is about Doorward
            user = answer.json()
            return User(user["id"], user["nickname"], user["role"], user["session_id"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("Doorward does not say whose token it is: %s", reason(error))
            raise Unknown from None
