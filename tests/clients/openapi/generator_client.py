"""Registers, logs in, reads the account and exports the audit log with the package that openapi-generator generates."""

import sys

from openapi_client import AccountApi, AdministrationApi, ApiClient, ApiException, Configuration, SessionApi
from openapi_client.models.export_format import ExportFormat
from openapi_client.models.login_request import LoginRequest
from openapi_client.models.register_request import RegisterRequest

url, email, password = sys.argv[1:]
with ApiClient(Configuration(host=url)) as anyone:
    person = {"email": email, "password": password}
    made = AccountApi(anyone).register(
        RegisterRequest(**person, nickname="generator", passphrase="blue heron over water")
    )
    assert made.email == email, made
    opened = SessionApi(anyone).login(LoginRequest(**person))
    try:
        SessionApi(anyone).login(LoginRequest(email=email, password="another-lamp"))
        raise AssertionError("a wrong password opened a session")
    except ApiException as refused:
        assert refused.status == 401 and refused.data.status == 401, refused
with ApiClient(Configuration(host=url, access_token=opened.access_token)) as mine:
    account = AccountApi(mine).show_my_account()
    assert account.email == email and account.pending_email is None, account
    sessions = AccountApi(mine).list_my_sessions().sessions
    assert [session.current for session in sessions] == [True], sessions
    # The first account of the service is its administrator.
    events = AdministrationApi(mine).list_audit(limit=1).events
    assert events[0].event.value, events
    log = AdministrationApi(mine).export_audit(format=ExportFormat.NDJSON)
    assert bytes(log).endswith(b"\n"), log
