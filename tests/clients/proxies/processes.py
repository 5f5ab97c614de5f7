"""Doorward and the proxies as child processes. Each is ended by its own process id."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

CONFIGURATIONS = pathlib.Path(__file__).resolve().parents[3] / "docs" / "integrations"


def free_port():
    """Returns a port of 127.0.0.1 on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program that listens on ports of 127.0.0.1."""

    def __init__(self, name, folder, command, ports, environment):
        self.name, self.folder, self.command, self.ports, self.environment = name, folder, command, ports, environment
        self.log = folder / f"{name}.log"
        self.child = None

    def start(self):
        """Starts the program and waits until it listens."""
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 20
        for port in self.ports:
            while True:
                assert self.child.poll() is None, f"{self.name} ended by itself:\n{self.tail()}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert time.monotonic() < end, f"{self.name} does not listen on port {port}:\n{self.tail()}"
                time.sleep(0.05)
        return self

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self):
        """Stops the program and waits until it has ended."""
        if self.child is None or self.child.poll() is not None:
            return
        # A halted process would not react to SIGTERM.
        self.signal(signal.SIGCONT)
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def tail(self):
        """Returns the last lines of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(line[:300] for line in lines[-15:])


def doorward(program, folder, more=None):
    """Returns Doorward with an empty data directory. It trusts only the proxies, which connect from 127.0.0.1."""
    port = free_port()
    environment = {
        "PORT": str(port),
        "DATA_DIR": str(folder / "data"),
        "TRUSTED_PROXIES": "127.0.0.1",
        "LOG_LEVEL": "warn",
        "RATE_LIMITS_PUBLIC_ROUTES": "10000",
        **(more or {}),
    }
    return Process("doorward", folder, [program], [port], environment)


def replaced(text, replacements):
    """Returns the text with each pattern replaced. A missing pattern is an error."""
    for pattern, replacement in replacements:
        text, count = re.subn(pattern, lambda _: replacement, text)
        assert count, f"the configuration has nothing like {pattern!r}"
    return text


def nginx(folder):
    """Returns the command that starts nginx with `nginx.conf` of this folder."""
    # If root starts nginx, its worker runs as root too, because only root can read the folder.
    user = "user root root; " if os.getuid() == 0 else ""
    options = f"{user}daemon off; pid {folder}/pid; error_log stderr notice;"
    return ["nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", "-g", options]


def nginx_places(folder):
    """Returns the directives that make nginx keep its temporary files in this folder."""
    kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    return "    access_log off;\n" + "".join(f"    {name}_temp_path {folder}/{name};\n" for name in kept)


class Proxy(Process):
    """A proxy with its file from docs/integrations. Only addresses and file locations differ.

    `ports` are the port for every client with a token and the port for administrators.
    """

    def __init__(self, kind, folder, doorward_port, service, weaken=lambda _, text: text):
        self.kind, self.service = kind, service
        self.port, self.admin_port = ports = [free_port(), free_port()]
        folder.mkdir()
        addresses = [
            (r"127\.0\.0\.1:8000\b", f"127.0.0.1:{doorward_port}"),
            (r"127\.0\.0\.1:9000\b", f"127.0.0.1:{service.port}"),
            (r"127\.0\.0\.1:9001\b", f"127.0.0.1:{service.admin_port}"),
        ]
        command, environment = getattr(self, kind)(folder, addresses, weaken)
        super().__init__(kind, folder, command, ports, {"PATH": os.environ["PATH"], **environment})

    def write(self, folder, name, replacements, weaken):
        original = weaken(name, (CONFIGURATIONS / name).read_text("utf-8"))
        (folder / name).write_text(replaced(original, replacements), "utf-8")

    def nginx(self, folder, addresses, weaken):
        # In a map the number is only the port, in `listen` it becomes an address.
        listening = [
            (r"listen 8080;", f"listen 127.0.0.1:{self.port};"),
            (r"listen 8081;", f"listen 127.0.0.1:{self.admin_port};"),
            (r"(?<= )8080(?= )", str(self.port)),
            (r"(?<=\n)http \{\n", f"http {{\n{nginx_places(folder)}"),
        ]
        self.write(folder, "nginx.conf", listening + addresses, weaken)
        return nginx(folder), {}

    def caddy(self, folder, addresses, weaken):
        listening = [
            (rf"\n:{number} \{{\n", f"\n:{port} {{\n\tbind 127.0.0.1\n")
            for number, port in [(8080, self.port), (8081, self.admin_port)]
        ]
        # The administration interface of Caddy would need a port too, so it is off.
        listening.append((r"\n\(strip\)", "\n{\n\tadmin off\n}\n\n(strip)"))
        self.write(folder, "Caddyfile", listening + addresses, weaken)
        return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"], {"HOME": str(folder)}

    def haproxy(self, folder, addresses, weaken):
        listening = [
            (r"bind :8080\b", f"bind 127.0.0.1:{self.port}"),
            (r"bind :8081\b", f"bind 127.0.0.1:{self.admin_port}"),
            (r"dst_port 8080\b", f"dst_port {self.port}"),
        ]
        # Abstract socket names belong to the whole machine, like ports, so the name includes the port.
        socket = [(r"abns@doorward\b", f"abns@doorward-{self.port}")]
        self.write(folder, "haproxy.cfg", listening + addresses + socket, weaken)
        self.write(folder, "haproxy.lua", socket, weaken)
        return ["haproxy", "-db", "-f", "haproxy.cfg"], {}
