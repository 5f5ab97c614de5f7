"""The people of the checks and what they do at Doorward. Requests are controlled down to the spelling of their headers."""

import http.client
import json
import urllib.parse
from dataclasses import dataclass

PASSWORD = "quiet-lamp-under-blue-stairs"
# The address of the clients, which distinguishes them from the proxies.
CLIENT = "127.0.0.66"


@dataclass(repr=False)
class Answer:
    """The answer to a client."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __repr__(self):
        return f"{self.status} {self.headers.items()} {self.body[:300]}"


def connect(port, timeout=15):
    """Opens a connection from the clients' address."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout, source_address=(CLIENT, 0))


def send(connection, method="GET", target="/", headers=(), body=None, chunked=False, trailer=b""):
    """Sends a request with exactly these headers and a `Host`, in this order. Names may repeat."""
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        if chunked:
            for at in range(0, len(body), 100_000):
                part = body[at : at + 100_000]
                connection.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            connection.send(b"0\r\n" + trailer + b"\r\n")
        elif body is not None:
            connection.send(body)
    except (BrokenPipeError, ConnectionResetError):
        # The request was refused before it was complete. The answer says so.
        pass
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def ask(port, *args, timeout=15, **kwargs):
    """Sends a request over a connection of its own."""
    connection = connect(port, timeout)
    try:
        return send(connection, *args, **kwargs)
    finally:
        connection.close()


def bearer(token):
    return [("Authorization", f"Bearer {token}")]


class People:
    """Accounts at a Doorward, created through its own routes."""

    def __init__(self, port):
        self.port = port

    def call(self, status, method, path, token=None, body=None):
        """Sends a request to Doorward itself and asserts the status of the answer."""
        headers = bearer(token) if token else []
        if body is not None:
            headers, body = [*headers, ("Content-Type", "application/json")], json.dumps(body).encode()
        answer = ask(self.port, method, path, headers, body)
        assert answer.status == status, f"{method} {path}: {answer}"
        return json.loads(answer.body) if answer.body else None

    def register(self, email, nickname):
        body = {"email": email, "nickname": nickname, "password": PASSWORD, "passphrase": "the street with two wells"}
        return self.call(201, "POST", "/register", body=body)["id"]

    def login(self, email):
        return self.call(200, "POST", "/login", body={"email": email, "password": PASSWORD})["access_token"]

    def logout(self, token):
        self.call(200, "POST", "/logout", token)

    def change(self, admin, account, **change):
        self.call(200, "PUT", f"/accounts_management/{account}", admin, change)

    def session(self, token):
        """Returns the id of the session of a token."""
        sessions = self.call(200, "GET", "/my_account/sessions", token)["sessions"]
        return next(session["id"] for session in sessions if session["current"])

    def audited(self, admin, **filters):
        """Returns the audit records that match the filters."""
        return self.call(200, "GET", f"/audit/?{urllib.parse.urlencode(filters)}", admin)["events"]
