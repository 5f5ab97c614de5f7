"""Removes each line of each configuration in turn. Either the proxy must refuse to start, or a check must fail. Run
this after a change of configurations or checks; it takes two minutes. Usage: weakened.py DOORWARD"""

import pathlib
import signal
import sys
import tempfile
import threading

import check
import checks
from checks import Scene
from processes import CONFIGURATIONS, Proxy, doorward
from service import Service

FILES = {"nginx": ["nginx.conf"], "caddy": ["Caddyfile"], "haproxy": ["haproxy.cfg", "haproxy.lua"]}
# Lines whose removal no check notices, with the reason.
NOT_MISSED = {
    # They only improve performance.
    "keepalive 16;",
    'proxy_set_header Connection "";',
    "proxy_http_version 1.1;",
    # A connection within a machine succeeds or fails at once.
    "proxy_connect_timeout 2s;",
    "dial_timeout 2s",
    "timeout connect 2s",
    "timeout connect 5s",
    # Longer than any check takes.
    "keepalive_timeout 5s;",
    "keepalive 5s",
    "timeout client 30s",
    "timeout server 30s",
    # The defaults of nginx, written down so that no other value is set.
    "underscores_in_headers off;",
    "ignore_invalid_headers on;",
    # An additional safeguard: a body without a length is no body.
    "proxy_pass_request_body off;",
}
# Wrong values that an operator might write, which a check must notice: the file, the original text and its replacement.
INSTEAD = [
    ("nginx.conf", "underscores_in_headers off;", "underscores_in_headers on;"),
    ("nginx.conf", "ignore_invalid_headers on;", "ignore_invalid_headers off;"),
    ("nginx.conf", "$remote_addr;", "$proxy_add_x_forwarded_for;"),
    ("nginx.conf", "default /forward_auth?role=admin;", "default /forward_auth;"),
    ("Caddyfile", "uri /forward_auth?role=user", "uri /forward_auth"),
    ("Caddyfile", "uri /forward_auth?role=admin", "uri /forward_auth?role=user"),
    ("Caddyfile", "\troute {", "\thandle {"),
    ("haproxy.cfg", "/forward_auth?role=admin unless", "/forward_auth unless"),
    ("haproxy.cfg", "unless { var(txn.doorward_status) -m str 200 }", "if { var(txn.doorward_status) -m str 500 }"),
    ("haproxy.lua", ', "x-request-id" }', " }"),
    ("haproxy.lua", '"x-forwarded-for", "x-request-id" }', '"x-request-id" }'),
]


def lines(name):
    """Yields the meaningful lines of a configuration with their numbers."""
    for number, line in enumerate((CONFIGURATIONS / name).read_text("utf-8").splitlines()):
        said = line.strip()
        if said and not said.startswith(("#", "--")) and not said.endswith("{") and said != "}":
            yield number, said


def weaknesses(name):
    """Yields the changes to a configuration: the title, whether a check must notice it, and the changed text."""
    text = (CONFIGURATIONS / name).read_text("utf-8")
    kept = text.splitlines(keepends=True)
    for number, said in lines(name):
        yield f"{number + 1}: without {said}", said not in NOT_MISSED, "".join(kept[:number] + kept[number + 1 :])
    for given, there, instead in INSTEAD:
        if given == name:
            assert there in text, f"{name} has nothing like {there!r}"
            yield f"{there.strip()} -> {instead.strip()}", True, text.replace(there, instead)


def noticed(kind, folder, server, cast, service, weaken):
    """Returns the check that notices the weakened proxy, or None."""
    cast.people.change(cast.admin, cast.carol_id, lock=False, role="user")
    proxy, doing = None, "it does not start"
    try:
        proxy = Proxy(kind, folder, server.ports[0], service, weaken)
        proxy.start()
        scene = Scene(proxy, cast)

        def run(one):
            nonlocal doing
            doing = one.__name__
            one(scene)

        for one in checks.ALL:
            run(one)
        check.outage(server, run)
    except Exception:
        return doing
    finally:
        if proxy:
            proxy.stop()
    return None


def weaken_all(kind, found, stopping):
    """Adds the changes to a proxy that no check noticed to `found`."""
    service = Service()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        server = doorward(sys.argv[1], folder)
        try:
            cast = check.cast(server.start().ports[0])
            for name in FILES[kind]:
                for number, (title, must, left) in enumerate(weaknesses(name)):
                    if stopping.is_set():
                        return

                    def weaken(given, text, name=name, left=left):
                        return left if given == name else text

                    by = noticed(kind, folder / f"{name}-{number}", server, cast, service, weaken)
                    print(f"{name}: {title}: {by or 'not noticed'}", flush=True)
                    if not by and must:
                        found.append(f"{name}: {title}")
        except BaseException as error:
            found.append(f"{kind}: {error!r}")
            raise
        finally:
            server.stop()
            service.close()


def main():
    found, stopping = [], threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (found.append("out of time"), stopping.set()))
    threads = [threading.Thread(target=weaken_all, args=(kind, found, stopping)) for kind in FILES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if found:
        sys.exit("no check noticed:\n" + "\n".join(found))
    print("a check notices whatever is taken away, but for what NOT_MISSED lists")


if __name__ == "__main__":
    main()
