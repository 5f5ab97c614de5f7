"""Faults of the machine under the whole service: a full disk, a frozen process, a stop under load, steps of the clock.

    python3 tests/faults/faults.py PROGRAM [--rounds 1] [--seconds 4] [SCENARIO …]

Needs root for the small file system, and libfaketime for the clock. Each scenario starts the server, keeps people at work, brings the
fault about, and then checks on a server that works again everything that was acknowledged. Prints a line for each scenario and, as the
last one, 'N scenarios, N acknowledged changes, N lost'. The exit code is 0 only if nothing was lost and every expectation held.
"""

import argparse
import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PASSWORD, PHRASE = "Quiet-lamp-7-tree", "blue heron over water"
SERVICE_TOKEN = "faults-service-token-0123456789abcdef"
PATIENCE = 60
# Within this many seconds readiness has to say what is wrong, and that it is over.
SEEN_WITHIN = 5
PEOPLE = 6
SETTINGS = {"PORT": "0", "LOG_FORMAT": "json", "SERVICE_TOKEN": SERVICE_TOKEN, "RATE_LIMITS_PUBLIC_ROUTES": "1000000",
            "RATE_LIMITS_PRIVATE_ROUTES": "1000000", "MAX_SESSIONS_PER_USER": "1000", "HASH_DEADLINE_MS": "60000"}


class Failed(Exception):
    """An expectation that did not hold."""


def expect(holds, what):
    if not holds:
        raise Failed(what)


class Server:
    """The running program. Its log is read from a file."""

    def __init__(self, program, data, log, more=None):
        environment = {**SETTINGS, "PATH": os.environ["PATH"], "DATA_DIR": data, **(more or {})}
        self.log = log
        with open(log, "wb") as said:
            self.process = subprocess.Popen([program], env=environment, stdout=said, stderr=said, cwd="/")
        end = time.monotonic() + PATIENCE
        while not (line := self.line("listening")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise Failed(f"it did not start: {self.said()[-600:]}")
            time.sleep(0.01)
        self.port = int(line["address"].rpartition(":")[2])

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def line(self, message):
        lines = (json.loads(line) for line in self.said().splitlines() if f'"{message}"' in line and line.endswith("}"))
        return next(lines, None)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def call(self, method, path, body=None, token=None, timeout=PATIENCE):
        """Returns the status and the body, or `None` if there was no whole answer."""
        headers = {"Content-Type": "application/json", "X-Service-Token": SERVICE_TOKEN}
        if token:
            headers["Authorization"] = "Bearer " + token
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def becomes(self, ready):
        """Waits until readiness is as wanted, or the process has ended. Returns after how many seconds."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            if self.process.poll() is not None:
                return time.monotonic() - began
            answer = self.call("GET", "/health/ready", timeout=SEEN_WITHIN)
            if answer and (answer[0] == 200) == ready:
                return time.monotonic() - began
            time.sleep(0.05)
        raise Failed(f"readiness did not become {ready}")


class Person:
    """Someone who changes one thing after the other, and what was acknowledged of it."""

    def __init__(self, server, name):
        self.body = {"email": f"{name}@example.com", "nickname": name, "password": PASSWORD, "passphrase": PHRASE}
        answer = server.call("POST", "/register", self.body)
        expect(answer and answer[0] == 201, f"{name} is not registered: {answer}")
        self.token = self.login(server)
        self.other = self.login(server)
        self.path = f"/my_account/sessions/{self.session(server)[1]['id']}"
        # The labels that may be there: the acknowledged one, and one whose request had no answer.
        self.labels, self.ended, self.changes = {None}, [], 3

    def login(self, server):
        answer = server.call("POST", "/login", {"email": self.body["email"], "password": PASSWORD})
        expect(answer and answer[0] == 200, f"{self.body['nickname']} cannot log in: {answer}")
        return answer[1]["access_token"]

    def session(self, server):
        """Returns the status of the list of sessions, and the one of this person's token."""
        status, body = server.call("GET", "/my_account/sessions", token=self.token)
        return status, next((session for session in (body or {}).get("sessions", []) if session["current"]), None)

    def work(self, server, stop):
        count = 0
        while not stop.is_set() and server.process.poll() is None:
            count += 1
            label = f"{self.body['nickname']} {count}"
            answer = server.call("PATCH", self.path, {"label": label}, self.token)
            if answer and answer[0] == 200:
                self.labels = {label}
                self.changes += 1
            else:
                # A refusal by a service that cannot write changed nothing, but an answer that is missing may have.
                expect(answer is None or answer[0] >= 500, f"a label was answered {answer}")
                self.labels.add(label)
                time.sleep(0.05)
            if self.other and count % 40 == 0:
                token, self.other = self.other, None
                answer = server.call("POST", "/logout", token=token)
                if answer and answer[0] == 200:
                    self.ended.append(token)
                    self.changes += 1

    def lost(self, server):
        """Returns what was acknowledged and is not there."""
        lost, name = [], self.body["nickname"]
        status, session = self.session(server)
        if status != 200:
            return [f"the session of {name}: {status}"]
        label = session["label"]
        if label not in self.labels:
            lost.append(f"the label of {name} is {label}, and not one of {sorted(map(str, self.labels))[:4]}")
        lost += [f"an ended session of {name} lives" for token in self.ended if server.call("POST", "/verify", token=token)[0] != 401]
        return lost


@contextlib.contextmanager
def at_work(server, people):
    """Keeps people at work. What one of them finds wrong is raised at the end."""
    stop, wrong = threading.Event(), []

    def work(person):
        try:
            person.work(server, stop)
        except Failed as failed:
            wrong.append(failed)
    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if wrong:
        raise wrong[0]


class Stage:
    """A place for one scenario: its directory, its servers and what was counted."""

    def __init__(self, program, seconds):
        self.program, self.seconds = program, seconds
        self.work = tempfile.mkdtemp(prefix="faults-")
        self.servers, self.changes, self.lost = [], 0, []

    def start(self, data="data", more=None):
        server = Server(self.program, os.path.join(self.work, data), os.path.join(self.work, f"log{len(self.servers)}"), more)
        self.servers.append(server)
        return server

    def people(self, server):
        return [Person(server, f"person{n}") for n in range(PEOPLE)]

    def judge(self, server, people):
        for person in people:
            self.changes += person.changes
            self.lost += person.lost(server)

    def close(self):
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.work, ignore_errors=True)


def disk_full(stage):
    """R03: nothing is acknowledged that a full disk loses, and readiness says so."""
    disk = os.path.join(stage.work, "disk")
    os.mkdir(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk]).returncode:
        return "not run: this user may not mount a small file system"
    try:
        server = stage.start("disk/data")
        people = stage.people(server)
        with at_work(server, people):
            time.sleep(stage.seconds / 4)
            filler = os.path.join(disk, "filler")
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(64 * 1024)):
                    pass
            seen = server.becomes(ready=False)
            # It may have ended already: after a commit that failed, nothing in memory can be relied on.
            expect(seen <= SEEN_WITHIN, f"the full disk was seen after {seen:.1f} s")
            time.sleep(stage.seconds)
        ended = server.process.poll()
        expect(ended is None or "No space left on device" in server.said(), "it ended without naming the disk")
        expect(ended != 0, "it ended as if all were well")
        os.remove(filler)
        if ended is None:
            back = server.becomes(ready=True)
            expect(back <= 2 * SEEN_WITHIN, f"it was ready {back:.1f} s after there was space")
            server.kill()
        server = stage.start("disk/data")
        stage.judge(server, people)
        server.kill()
        return f"seen after {seen:.1f} s, " + ("ready again with space" if ended is None else f"ended with status {ended}")
    finally:
        for server in stage.servers:
            server.kill()
        subprocess.run(["umount", disk], check=True)


def frozen(stage):
    """R19: a process that was frozen for longer than every deadline goes on, and takes no actor for frozen."""
    server = stage.start()
    people = stage.people(server)
    with at_work(server, people):
        time.sleep(stage.seconds / 4)
        server.signal(signal.SIGSTOP)
        time.sleep(15)
        server.signal(signal.SIGCONT)
        back = server.becomes(ready=True)
        expect(back <= SEEN_WITHIN, f"it was ready {back:.1f} s after it went on")
        time.sleep(stage.seconds)
    expect(server.process.poll() is None, "it ended")
    actors = server.call("GET", "/health/actors")[1]["actors"]
    restarted = [actor["name"] for actor in actors if actor["restarts"]]
    expect(not restarted, f"actors were restarted: {restarted}")
    stage.judge(server, people)
    return f"ready {back:.1f} s after it went on"


def stopped(stage):
    """R11: an orderly stop under load loses nothing, and ends in time."""
    server = stage.start()
    people = stage.people(server)
    with at_work(server, people):
        time.sleep(stage.seconds)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        status = server.process.wait(PATIENCE)
        took = time.monotonic() - began
    expect(status == 0, f"it ended with status {status}")
    expect(took <= 10, f"the stop took {took:.1f} s")
    stage.judge(stage.start(), people)
    return f"ended after {took:.1f} s"


def clock(stage):
    """R05: after a step of the wall clock by an hour or a day, forth and back, people log in, and nothing dead lives."""
    library = (glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or [None])[0]
    expect(library, "libfaketime is not installed")
    offset = os.path.join(stage.work, "offset")

    def step(text):
        with open(offset + ".new", "w") as file:
            file.write(text + "\n")
        os.rename(offset + ".new", offset)

    step("+0")
    fake = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": offset, "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    server = stage.start(more=fake)
    people = stage.people(server)
    for text in ["+3600", "+0", "-3600", "+0", "+86400", "+0", "-86400", "+0"]:
        step(text)
        ended = people[0].login(server)
        expect(server.call("POST", "/verify", token=ended)[0] == 200, f"after {text} a new session is not alive")
        expect(server.call("POST", "/logout", token=ended)[0] == 200, f"after {text} nobody can log out")
        people[0].ended.append(ended)
        people[0].changes += 2
        expect(server.becomes(ready=True) <= SEEN_WITHIN, f"after {text} it was not ready")
    lived = [token for token in people[0].ended if server.call("POST", "/verify", token=token)[0] != 401]
    expect(not lived, "an ended session lives again")
    stage.changes += people[0].changes
    return "8 steps"


SCENARIOS = {scenario.__name__: scenario for scenario in [disk_full, frozen, stopped, clock]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; all by default")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=4, help="of load around each fault")
    options = arguments.parse_args()
    program, scenarios, changes, lost, wrong = os.path.realpath(options.program), 0, 0, 0, 0
    for _ in range(options.rounds):
        for name in options.scenarios or SCENARIOS:
            stage = Stage(program, options.seconds)
            try:
                said = SCENARIOS[name](stage)
            except Failed as failed:
                said, wrong = f"FAILED: {failed}", wrong + 1
            finally:
                stage.close()
            scenarios, changes, lost = scenarios + 1, changes + stage.changes, lost + len(stage.lost)
            print(f"{name}: {said}", *stage.lost[:5], sep="; ", flush=True)
    print(f"{scenarios} scenarios, {changes} acknowledged changes, {lost} lost")
    return 1 if lost or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
