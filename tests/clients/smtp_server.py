"""A mail server on aiosmtpd that requires STARTTLS and a login, and writes the last mail to a file.

Usage: smtp_server.py PORT CERTIFICATE KEY FILE
"""

import asyncio
import base64
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = b"ann@example.com", b"p@ss/word"


class Keep:
    """Writes each mail to a file. A temporary name is used first."""

    def __init__(self, path):
        self.path = path

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "host": session.host_name,
            "tls": session.ssl is not None,
            "authenticated": session.authenticated,
            "content": base64.b64encode(envelope.content).decode(),
        }
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(mail, file)
        os.replace(self.path + ".new", self.path)
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER, PASSWORD)
    return AuthResult(success=good, handled=good)


async def main():
    port, certificate, key, path = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def connection():
        return SMTP(
            Keep(path),
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
        )

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", int(port))
    await server.serve_forever()


asyncio.run(main())
