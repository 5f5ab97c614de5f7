"""Registers, logs in and reads the account with the package that openapi-python-client generates."""

import sys

from made.api.account import list_my_sessions, register, show_my_account
from made.api.session import login
from made.client import AuthenticatedClient, Client
from made.models import LoginRequest, MyAccount, Problem, RegisterRequest, Sessions

url, email, password = sys.argv[1:]
anyone = Client(base_url=url, raise_on_unexpected_status=True)
person = {"email": email, "password": password}

made = register.sync(
    client=anyone, body=RegisterRequest(**person, nickname="python", passphrase="blue heron over water")
)
assert made.email == email, made
opened = login.sync(client=anyone, body=LoginRequest(**person))
mine = AuthenticatedClient(base_url=url, token=opened.access_token, raise_on_unexpected_status=True)
account = show_my_account.sync(client=mine)
assert isinstance(account, MyAccount) and account.email == email and account.pending_email is None, account
sessions = list_my_sessions.sync(client=mine)
assert isinstance(sessions, Sessions) and [session.current for session in sessions.sessions] == [True], sessions
wrong = login.sync(client=anyone, body=LoginRequest(email=email, password="another-lamp"))
assert isinstance(wrong, Problem) and wrong.status == 401, wrong
