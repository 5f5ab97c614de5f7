"""Reads the mail that smtp_server.py stored, as a mail program would. Usage: check_mail.py FILE"""

import base64
import email
import email.policy
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    mail = json.load(file)
message = email.message_from_bytes(base64.b64decode(mail["content"]), policy=email.policy.default)

assert mail["tls"] and mail["authenticated"], mail
assert mail["from"] == "doorward@localhost" and mail["to"] == ["ann@example.org"], mail
assert message["Subject"] == "Mesaj de test de la Doorward", message["Subject"]
assert message["Auto-Submitted"] == "auto-generated" and message["Content-Language"] == "ro"
assert not message.defects, message.defects
text = message.get_body(("plain",)).get_content()
html = message.get_body(("html",)).get_content()
assert "Nu trebuie să faceți nimic." in text and "Nu trebuie să faceți nimic." in html
assert html.startswith("<!DOCTYPE html>") and '<html lang="ro">' in html
print("the mail came over TLS, with a login, in two parts:", message["Message-ID"])
