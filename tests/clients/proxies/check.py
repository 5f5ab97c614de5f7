"""Runs the configurations of docs/integrations/ in nginx, Caddy and HAProxy, between a client and a service, in front
of a real Doorward, and the one of docs/deployment.md that serves Doorward under a path. Usage: check.py DOORWARD"""

import pathlib
import signal
import sys
import tempfile
import threading
import time
import traceback

import checks
import under_a_path
from checks import Cast, Scene
from people import People, ask, bearer
from processes import Proxy, doorward
from service import Service
from under_a_path import UnderAPath

KINDS = ["nginx", "caddy", "haproxy"]
# The time in seconds that clients wait while Doorward does not answer. The proxies give a hanging Doorward five seconds
# and fail at once if it is not running.
PATIENCE = 9


def cast(port):
    """Creates the accounts of the checks and their tokens."""
    people = People(port)
    admin_id = people.register("ann@example.com", "ann")
    user_id = people.register(checks.EMAIL, checks.NICKNAME)
    carol_id = people.register("carol@example.com", "carol")
    dan_id = people.register("dan@example.com", "dan")
    admin, user, locked = (people.login(f"{name}@example.com") for name in ["ann", "zoë", "dan"])
    logged_out = people.login(checks.EMAIL)
    people.logout(logged_out)
    people.change(admin, dan_id, lock=True)
    return Cast(people, admin, admin_id, user, user_id, carol_id, {"logged out": logged_out, "locked": locked})


def attempt(kind, check, *args):
    """Runs a check, prints its result and returns whether it passed."""
    started = time.monotonic()
    title = (check.__doc__ or check.__name__).strip()
    try:
        check(*args)
    except Exception:
        print(f"FAILED {kind}: {title}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"{kind}: {title} ({time.monotonic() - started:.1f} s)", flush=True)
    return True


def at_once(scenes, check):
    """Runs a check with every proxy concurrently and returns whether all passed."""
    held = []
    threads = [
        threading.Thread(target=lambda scene=scene: held.append(attempt(scene.proxy.kind, check, scene)))
        for scene in scenes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all(held)


def keeps_out(scene):
    """while Doorward is stopped, no request passes and none waits, whatever its headers"""
    started = time.monotonic()
    lies = [(name, "admin") for name in checks.NAMES]
    for headers in [bearer(scene.cast.user), [], lies, lies + bearer(scene.cast.user), bearer(scene.cast.admin)]:
        for admin in [False, True]:
            scene.refused([500, 502, 503, 504], "GET", "/", headers, admin=admin, timeout=PATIENCE)
    assert time.monotonic() - started < PATIENCE


def keeps_out_in_time(scene):
    """while Doorward hangs, no request passes and none waits for long"""
    scene.refused([500, 502, 503, 504], "POST", "/", bearer(scene.cast.user), b"body", timeout=PATIENCE)


def passes_again(scene):
    """once Doorward is back, the same token passes at once, and a dead token does not"""
    for _ in range(3):
        scene.passes("GET", "/again", bearer(scene.cast.user))
    for token in scene.cast.dead.values():
        scene.refused([401], "GET", "/", bearer(token))
    scene.passes("GET", "/", bearer(scene.cast.admin), user=scene.cast.admin_id, role="admin", admin=True)


def outage(server, run):
    """Halts Doorward, then stops and restarts it. `run` runs the checks of each state."""
    server.signal(signal.SIGSTOP)
    try:
        run(keeps_out_in_time)
    finally:
        server.signal(signal.SIGCONT)
        # Doorward first answers the requests that arrived meanwhile.
        assert ask(server.ports[0], "GET", "/health/live").status == 200
    run(passes_again)
    server.stop()
    try:
        run(keeps_out)
    finally:
        server.start()
    run(passes_again)


def main():
    started = time.monotonic()
    # The signal at the time limit is handled like any other end, so that no process remains.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))
    processes, services, held, complete = [], [], [], False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            server = doorward(sys.argv[1], folder)
            processes.append(server.start())
            people = cast(server.ports[0])
            scenes = []
            for kind in KINDS:
                services.append(Service())
                processes.append(Proxy(kind, folder / kind, server.ports[0], services[-1]))
                processes[-1].start()
                scenes.append(Scene(processes[-1], people))
            held.append(attempt("doorward", checks.alike_by_head, people, server.ports[0]))
            for scene in scenes:
                held += [attempt(scene.proxy.kind, check, scene) for check in checks.ALL]
            below = UnderAPath(sys.argv[1], folder / "below")
            for process in below.processes:
                processes.append(process)
                process.start()
            held += [attempt("under a path", check, below.site, below.mails) for check in under_a_path.ALL]
            outage(server, lambda check: held.append(at_once(scenes, check)))
            complete = True
        finally:
            for process in reversed(processes):
                process.stop()
            for service in services:
                service.close()
            if not (complete and all(held)):
                for process in processes:
                    print(f"-- {process.name}:\n{process.tail()}", flush=True)
    if not all(held):
        sys.exit("a proxy does not keep what its configuration promises")
    print(f"{', '.join(KINDS)} ask Doorward before every request ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
