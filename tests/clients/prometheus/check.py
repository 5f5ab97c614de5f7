"""A Prometheus on this machine scrapes a running Doorward: without a token by METRICS_ADDR, and with a service token."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

MONITORING = Path(__file__).parents[3] / "docs" / "monitoring"
SERVICE_TOKEN = "a-service-token-of-a-good-length-0123"
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, ask):
    """Asks again and again until the answer is true, and returns it."""
    end, last = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        try:
            last = ask()
        except (OSError, urllib.error.URLError) as error:
            last = error
        if last and not isinstance(last, Exception):
            return last
        time.sleep(0.25)
    sys.exit(f"not in time: {what}: {last}")


@contextmanager
def running(*command, log, **more):
    """Runs a process, and ends it by its id."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **more)
    try:
        yield process
    except BaseException:
        print(Path(log).read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def fetch(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def queries_of_the_dashboard():
    text = (MONITORING / "grafana-dashboard.json").read_text()
    for panel in json.loads(text)["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")


def traffic(base):
    """Sends requests of each kind that is counted by outcome."""
    person = {"email": "ann@example.com", "nickname": "ann", "password": "quiet-lamp-tree-77", "passphrase": "so blue a car"}
    assert fetch(f"{base}/register", person)[0] == 201
    login = {"email": person["email"], "password": person["password"]}
    status, body = fetch(f"{base}/login", login)
    assert status == 200, body
    token = {"Authorization": f"Bearer {json.loads(body)['access_token']}", "X-Service-Token": SERVICE_TOKEN}
    for _ in range(20):
        assert fetch(f"{base}/verify", {}, **token)[0] == 200
    assert fetch(f"{base}/login", {**login, "password": "quiet-lamp-tree-78"})[0] == 401
    assert fetch(f"{base}/nothing")[0] == 404


def main(doorward):
    port, open_port, prometheus_port = free_port(), free_port(), free_port()
    base, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{prometheus_port}/api/v1"
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        work = Path(work)
        environment = {
            "DATA_DIR": str(work / "data"),
            "PORT": str(port),
            "METRICS_ADDR": f"127.0.0.1:{open_port}",
            "SERVICE_TOKEN": SERVICE_TOKEN,
            "LOG_FORMAT": "json",
        }
        stack.enter_context(running(doorward, log=work / "doorward.log", env=environment, cwd=work))
        until("Doorward is ready", lambda: fetch(f"{base}/health/ready")[0] == 200)
        traffic(base)

        assert fetch(f"{base}/metrics")[0] == 404, "a stranger may not see the metrics"
        status, text = fetch(f"http://127.0.0.1:{open_port}/metrics")
        assert status == 200 and "doorward_ready 1" in text, text
        linted = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=20)
        assert linted.returncode == 0, linted.stdout + linted.stderr

        (work / "token").write_text(SERVICE_TOKEN)
        config = (MONITORING / "prometheus.yml").read_text()
        config = re.sub(r"_interval: 15s", "_interval: 1s", config).replace("127.0.0.1:9100", f"127.0.0.1:{open_port}")
        config = config.replace("doorward.rules.yml", str(MONITORING / "doorward.rules.yml"))
        config += f"""
  - job_name: with_a_token
    authorization: {{credentials_file: {work / 'token'}}}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
        (work / "prometheus.yml").write_text(config)
        stack.enter_context(
            running(
                "prometheus",
                f"--config.file={work / 'prometheus.yml'}",
                f"--storage.tsdb.path={work / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
                log=work / "prometheus.log",
            )
        )

        def ask(query):
            status, body = fetch(f"{api}/query?" + urllib.parse.urlencode({"query": query}))
            assert status == 200, (query, body)
            return json.loads(body)["data"]["result"]

        for job in ["doorward", "with_a_token"]:
            until(f"{job} is up", lambda: ask(f'up{{job="{job}"}} == 1'))
        targets = json.loads(fetch(f"{api}/targets")[1])["data"]["activeTargets"]
        assert all(target["health"] == "up" and not target["lastError"] for target in targets), targets

        def rules():
            groups = json.loads(fetch(f"{api}/rules")[1])["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

        checked = until("every rule is evaluated", rules)
        firing = [rule["name"] for rule in checked if rule["state"] != "inactive"]
        assert not firing, firing

        until("two scrapes", lambda: ask('count_over_time(doorward_ready{job="doorward"}[1m]) > 3'))
        logins = ask('doorward_logins_total{job="doorward",outcome="success"}')
        assert [row["value"][1] for row in logins] == ["1"], logins
        quantile = ask('histogram_quantile(0.99, doorward_http_request_duration_seconds_bucket{job="doorward",route="/verify"})')
        assert 0 < float(quantile[0]["value"][1]) < 10, quantile
        queries = list(queries_of_the_dashboard())
        empty = [query for query in queries if not ask(query)]
        # Nothing was recovered in this run, but the counters of recoveries are there from the start.
        assert not empty, empty
        print(f"{len(checked)} rules are evaluated, {len(queries)} queries of the dashboard have data")


if __name__ == "__main__":
    main(sys.argv[1])
