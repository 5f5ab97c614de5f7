"""Runs the configurations of docs/integrations/ in nginx, Caddy and HAProxy, between a client and a service, before a real
Doorward, and the one of docs/deployment.md that puts Doorward under a path. Usage: check.py DOORWARD"""

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
# How long clients wait while Doorward does not answer, in seconds. The proxies give it five, and one that is not there none.
PATIENCE = 9


def cast(port):
    """The accounts of the checks and their tokens."""
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
    """Runs a check and says how it went; whether it holds."""
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
    """The same check with every proxy at the same time; whether all hold."""
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
    """while Doorward is stopped nobody passes, whatever they say, and nobody waits"""
    started = time.monotonic()
    lies = [(name, "admin") for name in checks.NAMES]
    for headers in [bearer(scene.cast.user), [], lies, lies + bearer(scene.cast.user), bearer(scene.cast.admin)]:
        for admin in [False, True]:
            scene.refused([500, 502, 503, 504], "GET", "/", headers, admin=admin, timeout=PATIENCE)
    assert time.monotonic() - started < PATIENCE


def keeps_out_in_time(scene):
    """while Doorward hangs nobody passes, and nobody waits for long"""
    scene.refused([500, 502, 503, 504], "POST", "/", bearer(scene.cast.user), b"body", timeout=PATIENCE)


def passes_again(scene):
    """once Doorward is there again the same token passes at once, and a dead one does not"""
    for _ in range(3):
        scene.passes("GET", "/again", bearer(scene.cast.user))
    for token in scene.cast.dead.values():
        scene.refused([401], "GET", "/", bearer(token))
    scene.passes("GET", "/", bearer(scene.cast.admin), user=scene.cast.admin_id, role="admin", admin=True)


def outage(server, run):
    """Halts Doorward, then ends and restarts it; `run` runs the checks of each state."""
    server.signal(signal.SIGSTOP)
    try:
        run(keeps_out_in_time)
    finally:
        server.signal(signal.SIGCONT)
        # It answers what it was asked meanwhile first.
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
    # The end of the time that the script gives is an end like any other, so that nothing stays behind.
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
