"""The checks that must pass behind every proxy while Doorward answers. Each function gets a `Scene` and fails by an
assertion."""

import concurrent.futures
import hashlib
import re
import time
import urllib.parse
import uuid
from dataclasses import dataclass

from people import CLIENT, People, ask, bearer, connect, send
from processes import Proxy

DEAD = 'Bearer error="invalid_token"'
NOT_ALLOWED = 'Bearer error="insufficient_scope"'
# A nickname and an address that need encoding in a header.
NICKNAME, EMAIL = "Bjørn 100% 漢字", "zoë@example.com"
NAMES = ["X-Auth-User-Id", "X-Auth-Email", "X-Auth-Nickname", "X-Auth-Role", "X-Auth-Session"]
# Headers that Doorward does not set, but that services may expect from other proxies.
OTHERS = ["X-Auth-User", "X-Auth-Username", "X-Auth-Groups", "X-Auth-Roles"]

# The signs that a header name may contain beside letters, digits and dashes (RFC 9110 §5.6.2). Some services treat them
# all alike.
SIGNS = "_.!#$%&'*+^`|~"


@dataclass
class Cast:
    """The people and tokens, the same for all proxies."""

    people: People
    admin: str
    admin_id: int
    user: str
    user_id: int
    carol_id: int
    dead: dict[str, str]


@dataclass
class Scene:
    """A proxy, the service behind it and the people in front of it."""

    proxy: Proxy
    cast: Cast

    def ask(self, *args, admin=False, **kwargs):
        """Returns the answer and the requests that reached the service meanwhile."""
        self.proxy.service.take()
        answer = ask(self.proxy.admin_port if admin else self.proxy.port, *args, **kwargs)
        return answer, self.proxy.service.take()

    def passes(self, *args, user=None, role="user", admin=False, **kwargs):
        """Sends a request that must pass with the correct identity. Returns it as the service saw it."""
        answer, arrived = self.ask(*args, admin=admin, **kwargs)
        assert answer.status == 200, answer
        by = "administration" if admin else "service"
        assert answer.headers["X-Answered-By"] == by, answer
        assert len(arrived) == 1, arrived
        self.identified(arrived[0], user or self.cast.user_id, role)
        return arrived[0]

    def refused(self, statuses, *args, **kwargs):
        """Sends a request that must be refused with one of these statuses and must not reach the service."""
        answer, arrived = self.ask(*args, **kwargs)
        assert answer.status in statuses and not arrived, (answer, arrived)
        return answer

    def identified(self, arrived, user, role):
        """Asserts that the service sees exactly the five headers of this user, even if it does not distinguish dashes
        from other signs."""
        seen = arrived.alike("X-Auth")
        assert [name for name, _ in seen] == sorted(name.upper().replace("-", "_") for name in NAMES), seen
        values = [arrived.values(name) for name in NAMES]
        assert values[0] == [str(user)] and values[3] == [role], values
        if user == self.cast.user_id:
            assert all(value.isascii() for [value] in values), values
            assert [urllib.parse.unquote(value) for [value] in values[1:3]] == [EMAIL, NICKNAME], values
        assert arrived.alike("X-Forwarded-For") == [("X_FORWARDED_FOR", CLIENT)], arrived.headers
        assert arrived.alike("X-Forwarded-Proto") == [("X_FORWARDED_PROTO", "http")], arrived.headers
        assert arrived.alike("Forwarded") == [], arrived.headers


def identity(scene):
    """a live token passes, and the service gets the user's identity, in letters of every script"""
    arrived = scene.passes("GET", "/", bearer(scene.cast.user))
    assert arrived.values("X-Auth-Session") == [scene.cast.people.session(scene.cast.user)]
    assert arrived.values("Authorization") == [f"Bearer {scene.cast.user}"], arrived.headers


def untouched(scene):
    """method, path, query and headers of a request reach the service unchanged"""
    target = "/a%20b/%2e%2e%2Fc//d;p=%C3%A4/?x=1&y=%26&x=2&role=admin&z"
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]:
        own = [("Cookie", "a=b; c=d"), ("X-Own", "Ä".encode()), ("X-Request-Id", "own")]
        arrived = scene.passes(method, target, bearer(scene.cast.user) + own)
        assert (arrived.method, arrived.target, arrived.length) == (method, target, 0), arrived
        assert arrived.values("Cookie") == ["a=b; c=d"] and arrived.values("X-Request-Id") == ["own"], arrived
        assert [value.split(":")[0] for value in arrived.values("Host")] == ["127.0.0.1"], arrived
        assert [value.encode("latin-1") for value in arrived.values("X-Own")] == ["Ä".encode()], arrived
    arrived = scene.passes("HEAD", "/h?q", bearer(scene.cast.user))
    assert (arrived.method, arrived.target) == ("HEAD", "/h?q"), arrived


def bodies(scene):
    """bodies of some MB pass, with a length and in chunks, and none is sent to Doorward"""
    body = bytes(range(256)) * 16_384
    digest = hashlib.sha256(body).hexdigest()
    for chunked in [False, True]:
        for more in [[], [("Expect", "100-continue")]]:
            headers = bearer(scene.cast.user) + more
            arrived = scene.passes("POST", "/upload", headers, body, chunked)
            assert (arrived.length, arrived.digest) == (len(body), digest), arrived
        scene.refused([401], "POST", "/upload", bearer("dead"), body[:40_000], chunked)
        scene.refused([401], "POST", "/upload", [], body[:40_000], chunked)
    arrived = scene.passes("POST", "/", bearer(scene.cast.user), b"")
    assert arrived.length == 0, arrived


def long_heads(scene):
    """a head that is too long for Doorward causes no error in Doorward"""
    headers = bearer(scene.cast.user) + [(f"X-Long-{number}", "x" * 7_000) for number in range(3)]
    if scene.proxy.kind == "nginx":
        scene.passes("GET", "/", headers)
    else:
        scene.refused([400, 431], "GET", "/", headers)


def dead_tokens(scene):
    """without a live token no request passes, and the answer says what is missing"""
    user, cast = scene.cast.user, scene.cast
    answer = scene.refused([401], "GET", "/", [])
    assert answer.headers.get_all("WWW-Authenticate") == ["Bearer"], answer
    head, payload, signature = user.split(".")
    other = "B" if signature[0] == "A" else "A"
    tampered = {
        "signature": f"{head}.{payload}.{other}{signature[1:]}",
        "payload": f"{head}.{payload[:-2]}{'AA' if payload[-2:] != 'AA' else 'BB'}.{signature}",
        "unsigned": f"{head}.{payload}.",
        "longer": f"{user}x",
        "garbage": "garbage",
    }
    for token in [*tampered.values(), *cast.dead.values()]:
        for admin in [False, True]:
            answer = scene.refused([401], "GET", "/", bearer(token), admin=admin)
            assert answer.headers.get_all("WWW-Authenticate") == [DEAD], answer
    for headers in [[("Authorization", "Bearer")], [("Authorization", f"Basic {user}")], [("Cookie", f"token={user}")]]:
        scene.refused([401], "GET", "/", headers)
    scene.refused([401], "GET", f"/?access_token={user}", [])
    # The internal path for questions to Doorward is not open to clients.
    for target in ["/_doorward", "/forward_auth", "/_doorward?role=user"]:
        scene.refused([401, 404], "GET", target, [])
        answer, _ = scene.ask("GET", target, bearer(user))
        assert answer.headers["X-Answered-By"] == "service" or answer.status == 404, answer


def two_tokens(scene):
    """two Authorization headers are refused, whichever of them is valid"""
    live, dead = bearer(scene.cast.user), bearer("dead")
    for headers in [live + dead, dead + live, live + live, live + [("authorization", "")]]:
        scene.refused([400, 401], "GET", "/", headers)
    scene.refused([401], "GET", "/", [("Authorization", f"{live[0][1]}, {dead[0][1]}")])


def roles(scene):
    """the port for administrators lets only administrators pass, by their present role"""
    people, admin = scene.cast.people, scene.cast.admin
    scene.passes("GET", "/", bearer(admin), user=scene.cast.admin_id, role="admin")
    scene.passes("GET", "/", bearer(admin), user=scene.cast.admin_id, role="admin", admin=True)
    scene.refused([401], "GET", "/", [], admin=True)
    for target in ["/", "/?role=user", "/forward_auth?role=user"]:
        answer = scene.refused([403], "GET", target, bearer(scene.cast.user), admin=True)
        # nginx forwards a challenge only with status 401.
        told = [] if scene.proxy.kind == "nginx" else [NOT_ALLOWED]
        assert answer.headers.get_all("WWW-Authenticate", []) == told, answer
    carol = people.login("carol@example.com")
    scene.refused([403], "GET", "/", bearer(carol), admin=True)
    people.change(admin, scene.cast.carol_id, role="admin")
    scene.passes("GET", "/", bearer(carol), user=scene.cast.carol_id, role="admin", admin=True)
    people.change(admin, scene.cast.carol_id, role="user")
    scene.refused([403], "GET", "/", bearer(carol), admin=True)


def forged(scene):
    """identity headers of a client never reach the service, in any spelling"""
    live = bearer(scene.cast.user)
    for name in [*NAMES, *OTHERS, "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"]:
        words = name.split("-")
        spelt = [name, name.lower(), name.upper(), *(sign.join(words) for sign in SIGNS)]
        spelt += [f"{'_'.join(words[:-1])}-{words[-1]}", f"{'-'.join(words[:-1])}_{words[-1]}".lower()]
        for value in ["203.0.113.9", ""]:
            lies = [(spelling, value) for spelling in spelt]
            for lie in lies:
                scene.passes("GET", "/", [lie, *live])
            scene.passes("GET", "/", [*lies, *live, *lies])
            scene.refused([401], "GET", "/", lies)
    lies = [(name, "admin") for name in NAMES]
    scene.refused([401], "GET", "/", [*lies, *bearer("dead")])
    scene.refused([403], "GET", "/", [*lies, *live], admin=True)


def forged_otherwise(scene):
    """a client can neither remove Doorward's headers nor add its own"""
    live = bearer(scene.cast.user)
    for name in [*NAMES, "X-Forwarded-For", "Authorization"]:
        for way in [name, f"close, {name}", f"keep-alive, {name.lower()}"]:
            answer, arrived = scene.ask("GET", "/", [("Connection", way), *live])
            if arrived or answer.status == 200:
                scene.identified(arrived[0], scene.cast.user_id, "user")
            else:
                assert answer.status in (400, 401), answer
    for name in ["X-Auth-Role ", "X-Auth-Role\t"]:
        answer, arrived = scene.ask("GET", "/", [(name, "admin"), *live])
        if arrived or answer.status == 200:
            scene.identified(arrived[0], scene.cast.user_id, "user")
        else:
            assert answer.status == 400, answer
    trailer = [("Trailer", "X-Auth-Role"), ("TE", "trailers")]
    scene.passes("POST", "/", [*trailer, *live], b"body", chunked=True, trailer=b"X-Auth-Role: admin\r\n")


def address(scene):
    """Doorward sees the real client address behind the proxy and not the claimed one, and it gets the request id"""
    agent, name = f"check {uuid.uuid4()}", str(uuid.uuid4())
    headers = [("User-Agent", agent), ("X-Request-Id", name), ("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")]
    # Each account has only one refusal of this kind in the audit log for a while.
    people = scene.cast.people
    people.register(f"{name[:8]}@example.com", name)
    scene.refused([403], "GET", "/", [*headers, *bearer(people.login(f"{name[:8]}@example.com"))], admin=True)
    seen, end = [], time.monotonic() + 5
    # A refusal is recorded shortly after it, not at once.
    while not seen and time.monotonic() < end:
        records = scene.cast.people.audited(scene.cast.admin, outcome="refused", limit=50)
        seen = [(record["address"], record["request_id"]) for record in records if record["user_agent"] == agent]
    assert seen == [(CLIENT, name)], records


def next_request(scene):
    """an ended session is refused on the next request, also over the same connection"""
    people, admin, carol_id = scene.cast.people, scene.cast.admin, scene.cast.carol_id
    endings = {
        "logout": people.logout,
        "lock": lambda _: people.change(admin, carol_id, lock=True),
        "sessions": lambda _: people.call(204, "DELETE", f"/accounts_management/{carol_id}/sessions", admin),
    }
    for name, end in endings.items():
        token = people.login("carol@example.com")
        connection = connect(scene.proxy.port)
        for _ in range(3):
            assert send(connection, "GET", "/", bearer(token)).status == 200
        socket = connection.sock
        assert socket is not None, "the proxy does not keep connections"
        end(token)
        scene.proxy.service.take()
        answer = send(connection, "GET", "/", bearer(token))
        assert answer.status == 401 and not scene.proxy.service.take(), (name, answer)
        assert answer.headers.get_all("WWW-Authenticate") == [DEAD], answer
        # The proxy may use the same connection for another user next.
        if connection.sock is socket:
            answer = send(connection, "GET", "/", bearer(scene.cast.user))
            assert answer.status == 200, (name, answer)
            scene.identified(scene.proxy.service.take()[0], scene.cast.user_id, "user")
        connection.close()
        if name == "lock":
            people.change(admin, carol_id, lock=False)
            scene.refused([401], "GET", "/", bearer(token))


def at_once(scene):
    """each of many concurrent requests has its own identity"""
    ids = {f"Bearer {scene.cast.user}": scene.cast.user_id, f"Bearer {scene.cast.admin}": scene.cast.admin_id}
    scene.proxy.service.take()

    def client(first):
        connection = connect(scene.proxy.port)
        statuses = [
            send(connection, "GET", "/", bearer([scene.cast.user, scene.cast.admin, "dead"][(first + at) % 3])).status
            for at in range(30)
        ]
        connection.close()
        return sorted(statuses)

    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        for statuses in clients.map(client, range(12)):
            assert statuses == [200] * 20 + [401] * 10, statuses
    arrived = scene.proxy.service.take()
    assert len(arrived) == 12 * 20, len(arrived)
    for one in arrived:
        user = ids[one.values("Authorization")[0]]
        scene.identified(one, user, "user" if user == scene.cast.user_id else "admin")


def upgrades(scene):
    """a request to upgrade the protocol is checked like any other"""
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    upgrade.append(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    scene.passes("GET", "/socket", upgrade + bearer(scene.cast.user))
    scene.refused([401], "GET", "/socket", upgrade + bearer("dead"))
    scene.refused([401], "GET", "/socket", upgrade)


ALL = [
    identity,
    untouched,
    bodies,
    long_heads,
    dead_tokens,
    two_tokens,
    roles,
    forged,
    forged_otherwise,
    address,
    next_request,
    at_once,
    upgrades,
]


def alike_by_head(cast, port):
    """HEAD /forward_auth returns the same headers as GET"""

    def seen(answer):
        # An answer to HEAD may omit the length (RFC 9110 §8.6).
        own = {"date", "x-request-id", "content-length"}
        return answer.status, sorted((n.lower(), v) for n, v in answer.headers.items() if n.lower() not in own)

    for query in ["", "?role=user", "?role=admin", "?role=root", "?role=user&role=admin"]:
        for headers in [[], bearer("dead"), bearer(cast.user), bearer(cast.admin), bearer(cast.user) * 2]:
            get, head = (ask(port, method, f"/forward_auth{query}", headers) for method in ["GET", "HEAD"])
            assert seen(get) == seen(head) and head.body == b"", (get, head)
            statuses = {"": 200, "?role=user": 200, "?role=admin": 200 if headers == bearer(cast.admin) else 403}
            statuses |= {"?role=root": 422, "?role=user&role=admin": 400}
            live = headers in [bearer(cast.user), bearer(cast.admin)]
            status = statuses[query] if live else 400 if len(headers) == 2 else 401
            assert get.status == status, (query, get)
            told = {name for name in get.headers if re.match("x-auth", name, re.I)}
            assert len(told) == (5 if status == 200 else 0), get
