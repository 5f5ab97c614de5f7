"""R14: a power cut at any moment loses no acknowledged change, and the next start succeeds.

    python3 tests/powercut/powercut.py PROGRAM [--images 60] [--seed 1]

Records the disk operations of a server under load, over a first start, a kill and an orderly stop. Then rebuilds the
possible contents of the disk after a cut at many moments (see disk.py), starts the server on each image and checks
everything that was acknowledged. Needs strace. The last line is 'N images, N failed opens, N lost'; the exit code is 0
only if nothing failed.
"""

import argparse
import base64
import collections
import concurrent.futures
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import disk

PASSWORD, PHRASE = "Quiet-lamp-7-tree", "blue heron over water"
PATIENCE = 60
SETTINGS = {"PORT": "0", "LOG_FORMAT": "json", "ALGORITHM": "EdDSA", "RATE_LIMITS_PUBLIC_ROUTES": "1000000",
            "RATE_LIMITS_PRIVATE_ROUTES": "1000000", "MAX_SESSIONS_PER_USER": "1000", "HASH_DEADLINE_MS": "60000",
            "REFRESH_GRACE_SECONDS": "0"}


class Server:
    """The program on a data directory. With a trace file, its system calls are recorded."""

    started = []

    def __init__(self, program, data, log, trace=None):
        self.environment = {**SETTINGS, "PATH": os.environ["PATH"], "DATA_DIR": data}
        self.program, self.log, self.traced = program, log, trace is not None
        command = disk.STRACE + ["-o", trace, program] if trace else [program]
        with open(log, "wb") as said:
            self.process = subprocess.Popen(command, env=self.environment, stdout=said, stderr=said, cwd="/")
        self.started.append(self)

    def wait(self):
        """Waits for the start and returns whether the server listens."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.said().splitlines():
                if '"listening"' in line:
                    self.port = int(json.loads(line)["address"].rpartition(":")[2])
                    return True
            time.sleep(0.01)
        return False

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def end(self, number):
        if self.process.poll() is None:
            target = self.process.pid
            if self.traced:
                with open(f"/proc/{target}/task/{target}/children") as children:
                    target = int(children.read().split()[0])
            os.kill(target, number)
        self.process.wait(PATIENCE)

    def call(self, method, path, body=None, token=None, identifier=None):
        headers = {"Connection": "close", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = "Bearer " + token
        if identifier:
            headers["X-Request-Id"] = identifier
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None


def session_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sid"]


class Account:
    """The expected state of one account after each of its changes, which are made one after the other."""

    numbers = itertools.count(1)

    def __init__(self, name):
        self.name, self.id, self.tokens = name, None, {}
        self.present = None             # (nickname, {session: label})
        self.history = []               # (request id, expected state after its answer)

    def change(self, server, method, path, body, token, after):
        identifier = f"r{next(self.numbers)}.{self.name}"
        status, answer = server.call(method, path, body, token, identifier)
        if status not in (200, 201, 204):
            raise RuntimeError(f"{method} {path} of {self.name} is answered {status}: {answer}")
        self.present = after(answer)
        self.history.append((identifier, self.present))
        return answer

    def register(self, server):
        body = {"email": f"{self.name}@example.com", "nickname": self.name, "password": PASSWORD, "passphrase": PHRASE}
        self.id = self.change(server, "POST", "/register", body, None, lambda _: (self.name, {}))["id"]

    def login(self, server):
        nickname, sessions = self.present
        body = {"email": f"{self.name}@example.com", "password": PASSWORD}
        answer = self.change(server, "POST", "/login", body, None,
                             lambda a: (nickname, {**sessions, session_of(a["access_token"]): None}))
        self.tokens[session_of(answer["access_token"])] = answer["access_token"]

    def step(self, server, rng):
        nickname, sessions = self.present
        session = rng.choice(sorted(sessions)) if sessions else None
        token = self.tokens.get(session)
        kind = rng.choices(["label", "rename", "logout", "login", "delete"], [75, 12, 5, 7, 0.3])[0]
        if session is None or kind == "login" and len(sessions) < 12:
            self.login(server)
        elif kind == "label":
            label = "".join(rng.choice("äöüßéèçñ€𝒶𝒷") for _ in range(64))
            self.change(server, "PATCH", f"/my_account/sessions/{session}", {"label": label}, token,
                        lambda _: (nickname, {**sessions, session: label}))
        elif kind == "rename":
            new = f"{self.name}-{next(self.numbers)}"
            self.change(server, "PUT", "/my_account/", {"nickname": new}, token, lambda _: (new, sessions))
        elif kind == "logout":
            self.change(server, "POST", "/logout", None, token,
                        lambda _: (nickname, {s: l for s, l in sessions.items() if s != session}))
        elif kind == "delete":
            self.change(server, "DELETE", "/my_account/delete", {"current_password": PASSWORD}, token, lambda _: None)

    def at(self, cut, answers):
        """Returns the possible states after a cut: the state of the last answer before it, or of the next change, which
        was in flight."""
        acknowledged = sum(answers[identifier] < cut for identifier, _ in self.history)
        states = [None] + [state for _, state in self.history]
        return states[acknowledged:acknowledged + 2]


class Load:
    """Accounts that change, each in one thread at a time. The first is the administrator, which does not change."""

    def __init__(self, rng):
        self.rng, self.accounts = rng, []

    def register(self, server, count):
        new = [Account(f"user{len(self.accounts) + n}") for n in range(count)]

        def begin(account):
            account.register(server)
            for _ in range(3):
                account.login(server)
        self.run([lambda a=a: begin(a) for a in new])
        self.accounts += new

    def work(self, server, seconds):
        end = time.monotonic() + seconds

        def work(mine, rng):
            while time.monotonic() < end:
                account = rng.choice(mine)
                if account.present:
                    account.step(server, rng)
        self.run([lambda mine=self.accounts[1 + n::16], seed=self.rng.random(): work(mine, random.Random(seed)) for n in range(16)])

    @staticmethod
    def run(jobs):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for done in [pool.submit(job) for job in jobs]:
                done.result()


def record(program, work, rng, seconds):
    """Runs the server three times under load. Returns the recording, the accounts, and the position at which each start
    had ended."""
    root = os.path.join(work, "recorded")
    os.mkdir(root)
    data = os.path.join(root, "data")
    recording, load, ready = disk.Recording(root), Load(rng), []
    root_account = Account("root")
    for run, share, stop in ((0, 0.6, signal.SIGKILL), (1, 0.25, signal.SIGTERM), (2, 0.15, signal.SIGKILL)):
        trace = os.path.join(work, f"run{run}.trace")
        server = Server(program, data, os.path.join(work, f"run{run}.log"), trace)
        if not server.wait():
            raise RuntimeError("the server does not start: " + server.said())
        identifier = f"ready{run}"
        server.call("GET", "/health/ready", identifier=identifier)
        if run == 0:
            root_account.register(server)
            load.accounts.append(root_account)
            root_account.login(server)
        load.register(server, 24 if run == 0 else 3)
        load.work(server, seconds * share)
        time.sleep(1)                   # the engine is idle at the kill, so that the trace is complete
        server.end(stop)
        recording.read(trace)
        ready.append(recording.answers[identifier])
        os.unlink(trace)
    compare(recording, root, work)
    return recording, load.accounts, ready


def compare(recording, root, work):
    """Asserts that the model with all calls equals the directory that the run left."""
    whole = os.path.join(work, "whole")
    recording.build(recording.lines, whole, disk.Choice(random.Random(0), "everything"))
    # A socket holds no data, and a killed server leaves it behind.
    command = ["diff", "-r", "-q", "--exclude=socket", whole, root]
    different = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    if different:
        raise RuntimeError("the recording does not say all that happened: " + different)
    shutil.rmtree(whole)


def cuts(recording, ready, count, rng):
    """Yields the moments of the power cuts: right after answers and writes, at random positions, and during starts."""
    answers, writes = list(recording.answers.values()), recording.writes
    starts = [w for w in writes if w <= ready[0]] + [w for w in writes if any(r - 400 < w <= r for r in ready)]
    ways = itertools.cycle(disk.Choice.WAYS)
    for kind in itertools.islice(itertools.cycle(["answer", "write", "start", "write", "answer", "anywhere"]), count):
        cut = {"answer": lambda: rng.choice(answers) + 1, "write": lambda: rng.choice(writes), "start": lambda: rng.choice(starts),
               "anywhere": lambda: rng.randrange(recording.lines)}[kind]()
        # The order is partly random, so that a kind of moment does not always get the same choice.
        yield cut, disk.Choice(random.Random(rng.random()), rng.choice(disk.Choice.WAYS) if rng.random() < 0.5 else next(ways))


def judge(program, image, accounts, recording, cut, ready):
    """Starts the server on an image. Returns whether it opened, and what was lost."""
    data, log = os.path.join(image, "data"), image + ".log"
    server = Server(program, data, log)
    try:
        if not server.wait():
            return False, [server.said()[-800:]]
        lost = ask(server, accounts, recording, cut)
    finally:
        server.end(signal.SIGKILL)
    verified = subprocess.run([program, "audit", "verify"], env=server.environment, cwd="/", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    if verified.returncode:
        lost.append(f"audit verify: {verified.stdout[-300:]}")
    if '"level":"ERROR"' in server.said():
        lost.append("an error in the log: " + server.said()[-500:])
    return True, lost


def ask(server, accounts, recording, cut):
    lost = []
    expected = {account: account.at(cut, recording.answers) for account in accounts}
    root = accounts[0]
    highest = max([a.id for a, states in expected.items() if a.id and recording.answers[a.history[0][0]] < cut], default=0)
    status, new = server.call("POST", "/register", {"email": "new@example.com", "nickname": "new", "password": PASSWORD, "passphrase": PHRASE})
    if status != 201 or new["id"] <= highest:
        lost.append(f"a registration is answered {status} {new}, and {highest} was given")
    if expected[root][0] is None:
        return lost                     # no registration was acknowledged yet
    status, answer = server.call("POST", "/login", {"email": "root@example.com", "password": PASSWORD})
    if status != 200:
        return lost + [f"the administrator cannot log in: {status} {answer}"]
    token = answer["access_token"]
    status, found = server.call("GET", "/accounts_management/?limit=1000", token=token)
    if status != 200:
        return lost + [f"the accounts are answered {status} {found}"]
    found = {account["email"].partition("@")[0]: account for account in found}
    for account, states in expected.items():
        present = None
        if account.name in found:
            identifier = found[account.name]["id"]
            _, answer = server.call("GET", f"/accounts_management/{identifier}/sessions", token=token)
            sessions = {s["id"]: s["label"] for s in answer["sessions"] if s["id"] != session_of(token)}
            present = (found[account.name]["nickname"], sessions)
        if present not in states:
            lost.append(f"{account.name} is {present}, expected one of {states}")
    for account in accounts[1:5]:
        # The token of an existing session is valid, which shows that its signing key was kept too.
        states = expected[account]
        for session in itertools.islice(states[0][1] if states[0] else (), 1):
            status, answer = server.call("GET", "/my_account/", token=account.tokens[session])
            if status != 200 and all(state and session in state[1] for state in states):
                lost.append(f"a token of {account.name} is answered {status} {answer}")
    return lost


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--images", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=20, help="of load")
    arguments.add_argument("--keep", action="store_true", help="keep what was found wrong")
    options = arguments.parse_args()
    program, rng = os.path.realpath(options.program), random.Random(options.seed)
    work = tempfile.mkdtemp(prefix="powercut-")
    counts = collections.Counter()
    try:
        recording, accounts, ready = record(program, work, rng, options.seconds)
        heads = sum(step[2] == "write" and step[3] % disk.SEGMENT == 0 for file in recording.engines() for step in file.done)
        print(f"{len(recording.answers)} answers, {len(recording.writes)} writes, {heads} of them begin a segment", flush=True)
        early = recording.unsynced_and_called_stable()
        for at, lower, upper in early[:5]:
            print(f"at {at} the head of segment {upper} calls segment {lower} stable, which was not synced")
        if recording.ranges:
            print(f"{recording.ranges} calls of sync_file_range took effect")
        plan = sorted(cuts(recording, ready, options.images, rng), key=lambda c: c[0])

        def one(number, cut, choice):
            image = os.path.join(work, f"image{number}")
            recording.build(cut, image, choice)
            opened, lost = judge(program, image, accounts, recording, cut, ready)
            if lost:
                print(f"image {number}, cut at {cut}, {choice.way}: " + "; ".join(lost)[:1500], flush=True)
            shutil.rmtree(image)
            return "lost" if lost and opened else "failed" if lost else "good"
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            counts.update(done.result() for done in [pool.submit(one, n, *c) for n, c in enumerate(plan)])
    finally:
        for server in Server.started:
            server.end(signal.SIGKILL)
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{sum(counts.values())} images, {counts['failed']} failed opens, {counts['lost']} lost")
    return 1 if early or recording.ranges or counts["failed"] or counts["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
