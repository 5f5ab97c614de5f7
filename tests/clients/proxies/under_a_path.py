"""Doorward under a path: nginx removes the path, as in docs/deployment.md, and the `PUBLIC_URL` of Doorward includes
it."""

import email
import email.policy
import html.parser
import json
import os
import re
import time
import urllib.parse
from dataclasses import dataclass

from people import PASSWORD, ask, bearer
from processes import CONFIGURATIONS, Process, doorward, free_port, nginx, nginx_places, replaced

PATH = "/auth"
EMAIL, NICKNAME = "pat@example.com", "pat"
NEW_PASSWORD = "seven-grey-boats-at-noon"
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


class Page(html.parser.HTMLParser):
    """The resources that a browser would request for a page."""

    def __init__(self, url, text):
        super().__init__()
        self.url, self.links, self.action, self.fields = url, [], None, {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [urllib.parse.urljoin(self.url, attrs[name]) for name in ["href", "src"] if name in attrs]
        if tag == "form":
            self.action = urllib.parse.urljoin(self.url, attrs["action"])
        if tag == "input" and "name" in attrs:
            self.fields[attrs["name"]] = attrs.get("value", "")


@dataclass
class Site:
    """Doorward behind the proxy, as a browser sees it."""

    url: str

    def ask(self, method, url, kind, headers=(), body=None):
        """Returns the text of an answer with this media type. Fails if the URL is not below the path."""
        assert url.startswith(f"{self.url}/"), f"{url} is not below {self.url}"
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        answer = ask(parts.port, method, target, headers, body)
        assert answer.status in (200, 201, 202), (url, answer)
        assert answer.headers.get_content_type() == kind, (url, answer)
        return answer.body.decode("utf-8", "replace")

    def call(self, method, url, headers=(), body=None):
        if body is not None:
            headers, body = [*headers, ("Content-Type", "application/json")], json.dumps(body).encode()
        return json.loads(self.ask(method, url, "application/json", headers, body))

    def page(self, url):
        return Page(url, self.ask("GET", url, "text/html"))

    def send(self, page, **typed):
        """Submits the form of a page."""
        form = urllib.parse.urlencode(page.fields | typed).encode()
        return self.ask("POST", page.action, "text/html", FORM, form)


def documentation(site, _):
    """`/`, the documentation, each of its files and the OpenAPI document work under the path"""
    docs = urllib.parse.urljoin(f"{site.url}/", site.call("GET", f"{site.url}/")["docs"])
    for url in [docs, f"{docs}/"]:
        page = site.page(url)
        kinds = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
        for link in page.links:
            site.ask("GET", link, kinds[link.rsplit(".", 1)[1]])
        assert {link.rsplit(".", 1)[1] for link in page.links} == set(kinds), page.links
        [initializer] = [link for link in page.links if link.endswith("initializer.js")]
        named = re.findall(r'"([^"]*openapi\.json)"', site.ask("GET", initializer, "text/javascript"))
        assert named, initializer
        for name in named:
            document = site.call("GET", urllib.parse.urljoin(url, name))
            [server] = document["servers"]
            assert server["url"] == site.url, server
            assert "/health/live" in document["paths"]
            site.call("GET", f"{server['url']}/health/live")


def mailed(folder, template):
    """Returns the link in the only mail of this template. Without a mail server, mails are files."""
    end = time.monotonic() + 20
    while not (files := list(folder.glob(f"*-{template}-*.eml"))):
        assert time.monotonic() < end, f"no mail {template} in {folder}"
        time.sleep(0.05)
    mail = email.message_from_bytes(files[0].read_bytes(), policy=email.policy.default)
    [link] = set(re.findall(r"https?://[^\s\"<>]+\?[^\s\"<>]+", mail.get_body(["plain"]).get_content()))
    return link


def links_in_mails(site, mails):
    """links in mails lead to pages whose forms work under the path"""
    body = {"email": EMAIL, "nickname": NICKNAME, "password": PASSWORD, "passphrase": "the street with two wells"}
    site.call("POST", f"{site.url}/register", body=body)
    site.send(site.page(mailed(mails, "verify_address")))
    login = site.call("POST", f"{site.url}/login", body={"email": EMAIL, "password": PASSWORD})
    account = site.call("GET", f"{site.url}/my_account/", bearer(login["access_token"]))
    assert account["email_verified"] is True, account
    site.call("POST", f"{site.url}/recovery/request", body={"email": EMAIL})
    site.send(site.page(mailed(mails, "reset_password")), new_password=NEW_PASSWORD)
    site.call("POST", f"{site.url}/login", body={"email": EMAIL, "password": NEW_PASSWORD})
    site.send(site.page(mailed(mails, "recovery_used")))


def proxy(folder, port, doorward_port):
    """Returns nginx with the configuration of docs/deployment.md for a path, without TLS."""
    text = (CONFIGURATIONS.parent / "deployment.md").read_text("utf-8")
    [configuration] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    [location] = re.findall(r"`(location \S+ \{)`", text)
    [proxy_pass] = re.findall(r"`(proxy_pass \S+;)`", text)
    server = [
        (r"127\.0\.0\.1:8000\b", f"127.0.0.1:{doorward_port}"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"http2 on;", ""),
        (r"ssl_certificate\S* .*;", ""),
        (r"location / \{", location),
        (r"proxy_pass \S+;", proxy_pass),
    ]
    http = f"events {{}}\nhttp {{\n{nginx_places(folder)}{replaced(configuration, server)}}}\n"
    (folder / "nginx.conf").write_text(http, "utf-8")
    return Process("nginx under a path", folder, nginx(folder), [port], {"PATH": os.environ["PATH"]})


class UnderAPath:
    """A Doorward of its own and the proxy in front of it."""

    def __init__(self, program, folder):
        folder.mkdir()
        port = free_port()
        self.site, self.mails = Site(f"http://127.0.0.1:{port}{PATH}"), folder / "data" / "mail"
        server = doorward(program, folder, {"PUBLIC_URL": self.site.url})
        self.processes = [server, proxy(folder, port, server.ports[0])]


ALL = [documentation, links_in_mails]
