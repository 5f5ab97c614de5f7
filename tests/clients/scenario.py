"""The common parts of the scenarios in check_tokens.py."""

import time
import traceback

from stand import Doorward, at_once, wait_for


class Scenario:
    """Counts passed and failed expectations. Continues after a failure as long as possible."""

    def __init__(self, name, work):
        self.name, self.work, self.held, self.failures = name, work / name, 0, []
        self.doorward, self.checkers = None, []

    def expect(self, what, holds, detail=""):
        if holds:
            self.held += 1
        else:
            self.failures.append(f"{self.name}: {what}: {detail}")
            print(f"{self.name}: FAILED: {what}: {detail}", flush=True)

    def say(self, text):
        print(f"{self.name}: {text}", flush=True)

    def run(self):
        try:
            begun = time.monotonic()
            self.play()
            self.say(f"{self.held} checks held, {len(self.failures)} failed, {time.monotonic() - begun:.0f} s")
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{self.name}: {error!r}")
        finally:
            for checker in self.checkers:
                checker.end()
            if self.doorward:
                self.doorward.stop()

    # The building blocks of the scenarios.

    def set_up(self, minutes_ago, scopes, **settings):
        """Starts a server with an administrator and a service token."""
        self.doorward = Doorward(self.work, IDDLE_MINUTES="120", **settings)
        self.doorward.start(minutes_ago)
        self.doorward.register("admin")
        self.admin = self.doorward.login("admin")
        wanted = {"name": "checkers", "scopes": scopes}
        self.service = self.doorward.must("POST", "/service_tokens/", self.admin["access_token"], wanted)["token"]

    def admits(self, what, token, role=None, status=200, among=None):
        """Asserts that every checker gives this answer about the token now."""
        for checker, (seen, user) in self.answers(token, among):
            good = seen == status and (role is None or user["role"] == role)
            self.expect(f"{what}: {checker.name}", good, f"{seen} {user}, expected {status} {role or ''}")

    def answers(self, token, among=None):
        among = among or self.checkers
        return list(zip(among, at_once(lambda checker: checker.check(token), among)))

    def comes(self, what, token, seen, seconds, among=None):
        """Asserts that every checker gives such an answer about the token within this number of seconds, and prints the
        times."""
        begun = time.monotonic()

        def await_it(checker):
            while True:
                asked = time.monotonic() - begun
                if seen(checker.check(token)):
                    return asked
                if asked > seconds + 5:
                    return None
                time.sleep(0.02)

        among = among or self.checkers
        times = list(zip(among, at_once(await_it, among)))
        for checker, took in times:
            self.expect(f"{what}: {checker.name}", took is not None and took <= seconds, f"took {took} of {seconds} s")
        told = ", ".join(f"{checker.name} {'never' if took is None else f'{took:.3f}'}" for checker, took in times)
        self.say(f"{what}: after {told} s")

    def in_time(self, holds, seconds):
        try:
            wait_for("", holds, seconds)
        except TimeoutError:
            return False
        return True

    def ends(self, what, dead, living, act, *args, **kwargs):
        """Asserts that an act ends these tokens: they are live before it and dead at most one second after Doorward
        acknowledged it. The others stay live."""
        for token in dead:
            self.admits(f"before {what}", token)
        if callable(act):
            act()
        else:
            self.doorward.must(act, *args, **kwargs)
        self.comes(what, dead[0], lambda answer: answer[0] == 401, 1)
        for token in dead[1:]:
            self.admits(f"after {what}, another token of it", token, status=401)
        for token in living:
            self.admits(f"after {what}, others live", token)
