"""A service without user management. It records every request that reaches it, down to the spelling of the headers."""

import hashlib
import http.server
import sys
import threading
from dataclasses import dataclass, field


@dataclass
class Arrived:
    """A request as the service received it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    length: int
    digest: str
    trailers: list[str] = field(default_factory=list)

    def values(self, name):
        """Returns the values of a header, in order."""
        return [value for given, value in self.headers if given.lower() == name.lower()]

    def alike(self, prefix):
        """Returns the headers with this prefix, as seen by a service that does not distinguish dashes from other signs,
        such as CGI and WSGI."""

        def folded(name):
            return "".join(c if c.isalnum() else "_" for c in name.upper())

        return sorted((folded(name), value) for name, value in self.headers if folded(name).startswith(folded(prefix)))


class Server(http.server.ThreadingHTTPServer):
    """A server that ignores connections dropped by proxies."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Service:
    """Listens on two ports of 127.0.0.1: one for the service and one for administration."""

    def __init__(self):
        self.arrived = []
        self.lock = threading.Lock()
        self.servers = [self.listen("service"), self.listen("administration")]
        self.port, self.admin_port = (server.server_address[1] for server in self.servers)

    def take(self):
        """Returns the requests that arrived since the last call."""
        with self.lock:
            arrived, self.arrived = self.arrived, []
        return arrived

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def listen(self, name):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An idle connection of a proxy must not keep a thread forever.
            timeout = 30
            # Buffers the output, so that head and body are sent together.
            wbufsize = -1

            def answer(self):
                body, trailers = self.body()
                digest = hashlib.sha256(body).hexdigest()
                arrived = Arrived(self.command, self.path, self.headers.items(), len(body), digest, trailers)
                with service.lock:
                    service.arrived.append(arrived)
                said = f"{name} answers {self.command}".encode()
                self.send_response(200)
                self.send_header("X-Answered-By", name)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

            def body(self):
                """Returns the body and the lines of the trailer."""
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0))), []
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                lines = iter(lambda: self.rfile.readline().strip().decode("latin-1"), "")
                return b"".join(parts), list(lines)

            def log_message(self, *_):
                """Does nothing: the checks report what went wrong."""

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server
