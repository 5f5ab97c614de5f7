"""Tests offline verification: programs with PyJWT and jose, and services with the middleware of docs/integrations,
verify tokens of a running Doorward. Each must accept valid tokens and refuse all others, at most one second after a
revocation.

Usage: check_tokens.py WORK [SCENARIO…]. The scenarios are EdDSA, ES256, RS256, lost, HS256 and played; without one, all
run concurrently. WORK is an existing directory. `.ci/clients` lists the required environment.
"""

import signal
import sys
import threading
import time
from pathlib import Path

from forge import bad_tokens, parts, private_key, with_unknown_keys
from played import Played
from scenario import Scenario
from stand import PASSWORD, at_once, copy_of, end_all, programs, services, wait_for

# How many minutes the clock of Doorward is behind at first. A key that is made then signs once the clock is corrected.
AGO = 20
# The settings of the checkers in seconds: time without a heartbeat (one comes every 15 seconds), and time between two
# fetches of the keys.
SILENCE, REFETCH = 20, 3
# The time in seconds that a checker may take to reconnect to Doorward.
RECONNECT = 7


def no_tokens(scenario, service, token):
    """Malformed credentials made from a live token are refused, and no log contains the token."""
    # Longer than a request to Doorward may be. Node itself accepts no longer one.
    long = 16_200 if service.name == "express" else 20_000
    for what, bad in [
        ("a letter that is not ASCII", f"{token}é"),
        ("a letter of Latin 1 before it", f"\xff{token}"),
        ("two in one header", f"{token}, Bearer {token}"),
        ("a sign that no token has", f'{token}"'),
        ("a long one", token + "A" * (long - len(token))),
    ]:
        seen, _ = service.check(bad)
        scenario.expect(f"{what}: {service.name}", seen == 401, seen)
    logged = token in service.log.read_text()
    scenario.expect(f"the token is in no log: {service.name}", not logged)


class Pairs(Scenario):
    """Doorward signs with key pairs of this algorithm."""

    def play(self):
        scopes = ["revocations", "revoke"]
        self.set_up(AGO, scopes, ALGORITHM=self.name, ACCESS_TOKEN_EXPIRE_MINUTES="60", REFRESH_GRACE_SECONDS="1")
        self.begin()
        self.roles()
        self.bad()
        self.storm()
        self.revocations()
        self.silence()
        self.rotation_and_restart()
        self.emergency()
        self.another_algorithm()

    def begin(self):
        doorward = self.doorward
        self.ids = {name: doorward.register(name) for name in ("ann", "bob", "carol", "dave")}
        early = doorward.login("ann")["access_token"]
        doorward.must("POST", "/logout", early)
        args = doorward, self.service, self.work
        settings = {"DOORWARD_SILENCE": str(SILENCE), "DOORWARD_REFETCH": str(REFETCH), "ACCESS_TOKEN_EXPIRE_MINUTES": "60"}
        programs_ = programs(*args, **settings)
        self.checkers += programs_
        self.services = services(*args, cut=True, **settings)
        self.checkers += self.services
        for service in self.services:
            wait_for(f"{service.name} listens", service.is_listening, 20)
        # The programs log in by themselves. Both sessions belong to ann.
        self.ann, self.other = (program.login("ann")["access_token"] for program in programs_)
        self.admits("before the feed is heard", self.ann, status=503, among=self.services)
        for checker in self.checkers:
            checker.way.mend()
        self.comes("ready", self.ann, lambda answer: answer[0] == 200, 15)
        _, claims = parts(self.ann)
        expected = {"id": self.ids["ann"], "nickname": "ann", "role": "user", "session": claims["sid"]}
        for checker, (_, user) in self.answers(self.ann):
            self.expect(f"the user: {checker.name}", user == expected, user)
        self.admits("a session that ended before they began", early, status=401)

    def roles(self):
        """The answers of the services apart from token validity, such as roles."""
        admin = self.admin["access_token"]
        for service in self.services:
            self.expect(f"admins pass: {service.name}", service.check(admin, "/admin")[0] == 200)
            self.expect(f"users do not: {service.name}", service.check(self.ann, "/admin")[0] == 403)
            without = [], [("Authorization", f"Basic {self.ann}")], [("Authorization", "Bearer ")]
            without += ([("Authorization", self.ann)], [("X-Access-Token", self.ann)])
            good, dead = ("Authorization", f"Bearer {self.ann}"), ("Authorization", "Bearer dead")
            without += [good, dead], [dead, good], [good, good], [good, ("authorization", "")]
            for headers in without:
                seen = service.get("/me", headers)
                self.expect(f"no token: {service.name}", seen[:2] == (401, "Bearer"), f"{seen} for {headers}")
            no_tokens(self, service, self.ann)
            seen = service.get("/me", [("authorization", f"bearer {self.ann}")])[0]
            self.expect(f"a scheme in small letters: {service.name}", seen == 200, seen)
            self.expect(f"ready: {service.name}", service.get("/health/ready", [])[0] == 200)

    def bad(self):
        kid = parts(self.ann)[0]["kid"]
        (jwk,) = [key for key in self.doorward.jwks() if key["kid"] == kid]
        count = 0
        for what, token in bad_tokens(self.ann, private_key(self.doorward.data, kid), jwk):
            count += 1
            self.admits(what or "a token made anew by the same key", token, status=401 if what else 200)
        self.say(f"{count} tokens, all bad but one")

    def storm(self):
        """Tokens with forged key ids do not make the checkers fetch the keys too often."""
        forged = with_unknown_keys(self.ann, 60)

        def refuse_all(checker):
            before, begun = len(checker.way.asked("/.well-known/jwks.json")), time.monotonic()
            time.sleep(REFETCH)
            statuses = {checker.check(token)[0] for token in forged}
            fetched = len(checker.way.asked("/.well-known/jwks.json")) - before
            return statuses, fetched, 1 + (time.monotonic() - begun) / REFETCH

        for checker, (statuses, fetched, most) in zip(self.checkers, at_once(refuse_all, self.checkers)):
            self.expect(f"forged keys are refused: {checker.name}", statuses == {401}, statuses)
            detail = f"{fetched} times, {most:.1f} at most"
            self.expect(f"forged keys fetch the keys now and then: {checker.name}", 1 <= fetched <= most, detail)
        self.admits("after forged keys", self.ann)

        # The same while the keys are unavailable, which must not cause more requests either.
        for service in self.services:
            service.way.lose("/.well-known/jwks.json")
        for service, (statuses, fetched, most) in zip(self.services, at_once(refuse_all, self.services)):
            self.expect(f"no keys, and forged ones are refused: {service.name}", statuses <= {401, 503}, statuses)
            detail = f"{fetched} times, {most:.1f} at most"
            self.expect(f"no keys, and forged ones fetch them now and then: {service.name}", 1 <= fetched <= most, detail)
        self.admits("no keys, and a token of a known one", self.ann, among=self.services)
        for service in self.services:
            service.way.find()
        time.sleep(REFETCH)
        self.comes("the keys are back", forged[0], lambda answer: answer[0] == 401, RECONNECT, among=self.services)

    def revocations(self):
        doorward, admin = self.doorward, self.admin["access_token"]
        new = lambda name: doorward.login(name)["access_token"]
        sid = lambda token: parts(token)[1]["sid"]
        managed = lambda name: f"/accounts_management/{self.ids[name]}"
        self.ends("logout", [self.other], [self.ann, admin], "POST", "/logout", self.other)
        other = new("ann")
        self.ends("a session ended by its owner", [other], [self.ann], "DELETE", f"/my_account/sessions/{sid(other)}", self.ann)
        others = [new("ann"), new("ann")]
        self.ends("all other sessions ended", others, [self.ann], "DELETE", "/my_account/sessions", self.ann)
        other = new("ann")
        self.ends("a session ended by an admin", [other], [self.ann], "DELETE", f"{managed('ann')}/sessions/{sid(other)}", admin)
        other = new("ann")
        ticket = {"X-Service-Token": self.service}
        self.ends("a token revoked by a service", [other], [self.ann], "POST", "/oauth2/revoke", headers=ticket, form={"token": other})

        dave = doorward.login("dave")
        tokens = [dave["access_token"]]
        used = {"refresh_token": dave["refresh_token"]}
        tokens.append(doorward.must("POST", "/refresh", body=used)["access_token"])
        time.sleep(1.2)

        def steal():
            status, _ = doorward.call("POST", "/refresh", body=used)
            self.expect("a used refresh token", status == 401, status)

        self.ends("a refresh token used again", tokens, [self.ann], steal)
        recovered = {"email": "dave@example.com", "passphrase": "my first car was GREEN", "new_password": "seven-otters-cross-the-harbour"}
        self.ends("recovery", [new("dave")], [self.ann], "POST", "/recovery", body=recovered)

        acting, other = new("carol"), new("carol")
        password = {"password": "nine-lanterns-over-the-quay"}
        self.ends("a new password", [other], [acting], "PUT", "/my_account/", acting, body=password)
        # A new password ends the freshness of its own session.
        shown = {"current_password": password["password"]}
        self.ends("deletion", [acting], [self.ann], "DELETE", "/my_account/delete", acting, body=shown)

        bob = new("bob")
        self.admits("before the new role", bob, role="user")
        doorward.must("PUT", managed("bob"), admin, {"role": "admin"})
        self.comes("a new role", bob, lambda answer: answer[0] == 200 and answer[1]["role"] == "admin", 1)
        for service in self.services:
            self.expect(f"the new role opens: {service.name}", service.check(bob, "/admin")[0] == 200)
        doorward.must("PUT", managed("bob"), admin, {"role": "user"})
        self.comes("the old role again", bob, lambda answer: answer[0] == 200 and answer[1]["role"] == "user", 1)
        for service in self.services:
            self.expect(f"the old role does not open: {service.name}", service.check(bob, "/admin")[0] == 403)
        self.ends("lock", [bob], [self.ann, admin], "PUT", managed("bob"), admin, {"lock": True})

    def silence(self):
        """The connection to Doorward hangs: it stays open, and no data arrives."""
        unheard = self.doorward.login("ann")["access_token"]
        for checker in self.checkers:
            checker.way.hang()
        begun = time.monotonic()
        self.doorward.must("POST", "/logout", unheard)
        time.sleep(1)
        self.admits("the way hangs for a second", self.ann)
        self.admits("the way hangs, and nobody heard of a logout", unheard)
        left = SILENCE + 1 - (time.monotonic() - begun)
        self.comes("the way hangs: nobody knows", self.ann, lambda answer: answer[0] == 503, left)
        for service in self.services:
            self.expect(f"not ready: {service.name}", service.get("/health/ready", [])[0] == 503)
        for checker in self.checkers:
            checker.way.go_on()
        self.comes("the way goes on", self.ann, lambda answer: answer[0] == 200, RECONNECT)
        self.admits("it is heard of now", unheard, status=401)

    def rotation_and_restart(self):
        doorward, old_kid = self.doorward, parts(self.ann)[0]["kid"]
        doomed = doorward.login("ann")["access_token"]
        if self.name == "ES256":
            doorward.command("keys", "rotate")
        else:
            doorward.must("POST", "/keys/rotate", self.admin["access_token"])
        wait_for("the new key is published", lambda: len(doorward.jwks()) == 2, 10)
        self.admits("after the rotation", self.ann)

        doorward.stop()
        self.admits("Doorward is down", self.ann)
        for checker in self.checkers:
            checker.way.cut()
        # The clock of Doorward moves forward by more than the 15 minutes that a new key waits.
        doorward.start()
        doorward.must("POST", "/logout", doomed)
        self.admits("nobody heard of it", doomed)
        before = [len(checker.way.requests) for checker in self.checkers]
        for checker in self.checkers:
            checker.way.mend()
        self.comes("a logout that was missed", doomed, lambda answer: answer[0] == 401, RECONNECT)
        for checker, since in zip(self.checkers, before):
            asked = [path for path in checker.way.requests[since:] if path.startswith("/revocations")]
            resumed = asked and all("start" not in path for path in asked)
            self.expect(f"it went on where it was: {checker.name}", resumed, asked)
        self.admits("what ended before the restart", self.other, status=401)
        other = doorward.login("ann")["access_token"]
        new_kid = parts(other)[0]["kid"]
        self.expect("another key signs", new_kid != old_kid)
        time.sleep(REFETCH)
        self.comes("a token of the new key", other, lambda answer: answer[0] == 200, RECONNECT)
        self.admits("a token of the old key", self.ann)
        self.ends("logout after a restart", [other], [self.ann], "POST", "/logout", other)

    def emergency(self):
        # The clock has moved by more than ADMIN_REAUTH_MINUTES since the administrator logged in.
        asked = {"compromised": True, "current_password": PASSWORD}
        self.doorward.must("POST", "/keys/rotate", self.admin["access_token"], asked)
        self.comes("a token of the key in wrong hands", self.ann, lambda answer: answer[0] == 401, 1)
        new = self.doorward.login("ann")["access_token"]
        self.comes("a token after an emergency", new, lambda answer: answer[0] == 200, 1)
        self.admits("tokens of the key in wrong hands stay dead", self.ann, status=401)
        self.ann = new

    def another_algorithm(self):
        """The published keys use an unexpected algorithm: each checker is configured for one algorithm."""
        self.doorward.stop()
        self.doorward.settings["ALGORITHM"] = "ES256" if self.name != "ES256" else "EdDSA"
        self.doorward.start()
        unexpected = self.doorward.login("ann")["access_token"]
        # The checkers may fetch the unknown key now, so that only the algorithm is wrong.
        time.sleep(REFETCH)
        self.admits("a token of an algorithm that is not expected", unexpected, status=401)
        self.admits("tokens of the algorithm before", self.ann)


class Lost(Scenario):
    """The cursors of the checkers are no longer valid."""

    def play(self):
        self.set_up(0, ["revocations"], ALGORITHM="EdDSA")
        doorward = self.doorward
        doorward.register("ann")
        self.sessions(3)
        doorward.stop()
        backup = self.work / "backup"
        copy_of(doorward.data, backup)
        doorward.start()
        args = doorward, self.service, self.work
        settings = {"DOORWARD_SILENCE": str(SILENCE), "DOORWARD_REFETCH": str(REFETCH)}
        self.checkers += programs(*args, **settings)
        self.checkers += services(*args, **settings)
        for checker in self.checkers:
            wait_for(f"{checker.name} heard", lambda: [p for p in checker.way.asked("/revocations") if "start" not in p], 20)
        admin = self.doorward.login("admin")["access_token"]
        for _ in range(3):
            new = doorward.login("ann")["access_token"]
            self.ends("logout before the backup is restored", [new], [admin], "POST", "/logout", new)

        # After the restore, the numbers that the checkers have seen belong to new events, which they must not miss.
        self.restore(backup)
        self.sessions(4)
        time.sleep(SILENCE)
        self.begin_again("410")

        # The checkers have seen more events than the restored backup has.
        self.restore(backup)
        feed = lambda after: doorward.call("GET", f"/revocations?after={after}", headers={"X-Service-Token": self.service})
        self.expect("cursors of a lost future", feed(self.cursor)[0] == 422, feed(self.cursor))
        self.begin_again("422")

    def restore(self, backup):
        for checker in self.checkers:
            checker.way.cut()
        self.doorward.stop()
        copy_of(backup, self.doorward.data)
        self.doorward.start()

    def sessions(self, count):
        for _ in range(count):
            self.doorward.must("POST", "/logout", self.doorward.login("ann")["access_token"])

    def begin_again(self, why):
        new = self.doorward.login("ann")["access_token"]
        if why == "410":
            # The checkers have received nothing for too long.
            self.admits("the feed was cut", new, status=503)
        before = [len(checker.way.requests) for checker in self.checkers]
        for checker in self.checkers:
            checker.way.mend()
        for checker, since in zip(self.checkers, before):
            asked = lambda: [path for path in checker.way.requests[since:] if path.startswith("/revocations")]
            begun = self.in_time(lambda: any("after=start" in path for path in asked()), RECONNECT)
            self.expect(f"{why}: it tried to go on, then began anew: {checker.name}", begun and "start" not in asked()[0], asked())
        self.comes(f"{why}: back", new, lambda answer: answer[0] == 200, RECONNECT)
        self.ends(f"{why}: logout", [new], [self.doorward.login("admin")["access_token"]], "POST", "/logout", new)
        headers = {"X-Service-Token": self.service}
        self.cursor = self.doorward.must("GET", "/revocations", headers=headers)["cursor"]


class Asked(Scenario):
    """A secret signs the tokens, so the services ask Doorward about each token."""

    def play(self):
        self.set_up(0, ["verify"], ALGORITHM="HS256")
        doorward, admin = self.doorward, self.admin["access_token"]
        id = doorward.register("ann")
        self.checkers += services(doorward, self.service, self.work)
        for service in self.checkers:
            wait_for(f"{service.name} listens", service.is_listening, 20)
        ann, other = (doorward.login("ann")["access_token"] for _ in range(2))
        expected = {"id": id, "nickname": "ann", "role": "user", "session": parts(ann)[1]["sid"]}
        for service, (status, user) in self.answers(ann):
            self.expect(f"the user: {service.name}", (status, user) == (200, expected), (status, user))
            self.expect(f"admins pass: {service.name}", service.check(admin, "/admin")[0] == 200)
            self.expect(f"users do not: {service.name}", service.check(ann, "/admin")[0] == 403)
            self.expect(f"no token: {service.name}", service.get("/me", [])[:2] == (401, "Bearer"))
            no_tokens(self, service, ann)
        self.admits("nonsense", "nonsense", status=401)
        self.admits("a changed token", ann[:-3] + "AAA", status=401)
        self.admits("before logout", other)
        doorward.must("POST", "/logout", other)
        self.admits("logout, at once", other, status=401)
        managed = f"/accounts_management/{id}"
        doorward.must("PUT", managed, admin, {"role": "admin"})
        self.admits("a new role, at once", ann, role="admin")
        doorward.stop()
        self.admits("Doorward is down", ann, status=503)
        doorward.start()
        self.admits("Doorward is back", ann)
        doorward.must("PUT", managed, admin, {"lock": True})
        self.admits("lock, at once", ann, status=401)
        doorward.must("DELETE", "/service_tokens/1", admin)
        self.admits("their own token is revoked", admin, status=503)


def main():
    work, names = Path(sys.argv[1]), sys.argv[2:] or ["EdDSA", "ES256", "RS256", "lost", "HS256", "played"]
    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGINT, end_all)
    kinds = {"lost": Lost, "HS256": Asked, "played": Played}
    scenarios = [kinds.get(name, Pairs)(name, work) for name in names]
    threads = [threading.Thread(target=scenario.run) for scenario in scenarios]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failures = [failure for scenario in scenarios for failure in scenario.failures]
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"clients: {sum(scenario.held for scenario in scenarios)} passed, {len(failures)} failed", flush=True)
    sys.exit(1 if failures else 0)


main()
