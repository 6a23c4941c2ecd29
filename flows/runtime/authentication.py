"""Who may use the service: one user and password, named by `RETRAIN_AUTH`, for Prefect, MLflow and the reports alike."""

from __future__ import annotations

import base64
import binascii
import configparser
import hmac
import os
import secrets
import shlex
import stat
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.environment import Environment, variable
from storage.errors import SettingError
from storage.io import write_atomically

VARIABLE = variable("auth")
SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE = "PREFECT_API_AUTH_STRING"
# MLflow takes none that is shorter, and not the one that its older versions began with.
MIN_CHARACTERS = 12
MLFLOW_DEFAULT = "password1234"
# A password is checked by a hash that takes tens of milliseconds; one that was right is not checked again for so long.
MLFLOW_CACHE_S = 300
REALM = "retrain"

_FORM = "expected USER:FILE, with the password in the first line of FILE"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Credentials:
    """The user and the password of the service."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> Credentials | None:
        """Read the file that `RETRAIN_AUTH` names; None if the variable is not set.

        Raises:
            SettingError: The variable has another form, or the file cannot hold the password. No message holds what may be one.
        """
        value = Environment.read().auth
        return None if value is None else cls.parse(value)

    @classmethod
    def parse(cls, value: str) -> Credentials:
        """Read the file of `USER:FILE`.

        Raises:
            SettingError: See `from_environment`.
        """
        user, colon, name = value.partition(":")
        # The value is not told: whoever mistakes the form writes the password in the place of the file.
        if not (user and colon and name):
            raise SettingError(f"{VARIABLE} has another form: {_FORM}; correct it, or unset it for a service without a password")
        if not (user.isascii() and user.isprintable()):
            raise SettingError(f"{VARIABLE} names the user {user!r}, expected printable ASCII characters: choose another name")
        return cls(user, _read_password(Path(name).expanduser()))

    @property
    def basic(self) -> str:
        """User and password as HTTP's basic authentication and Prefect join them."""
        return f"{self.user}:{self.password}"


def _read_password(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        content = file.read_bytes() if stat.S_ISREG(mode) else None
    except FileNotFoundError:
        raise SettingError(f"{VARIABLE} names a file that is not there: {_FORM}; make it, readable for you alone") from None
    except OSError as error:
        raise SettingError(
            f"the file that {VARIABLE} names cannot be read ({error.strerror}): give it to the user who runs this, by chown"
        ) from None
    if content is None:
        raise SettingError(f"{VARIABLE} names {str(file)!r}, which is no file: {_FORM}")
    if mode & stat.S_IRWXO:
        raise SettingError(
            f"everybody on this host may open {str(file)!r}, which holds a password: chmod 600 {shlex.quote(str(file))}"
        )
    first = content.split(b"\n", 1)[0].rstrip(b"\r").decode("ascii", errors="replace")
    if not first.strip():
        raise SettingError(f"the first line of {str(file)!r} is empty, expected the password of {VARIABLE}: write it there")
    if not first.isascii() or not first.isprintable():
        raise SettingError(f"the first line of {str(file)!r} holds more than printable ASCII characters: choose another password")
    if len(first) < MIN_CHARACTERS or first == MLFLOW_DEFAULT:
        raise SettingError(
            f"the password in {str(file)!r} is too easy to guess, expected {MIN_CHARACTERS} characters or more: choose another"
        )
    return first


def set_variables() -> None:
    """Set the variables by which Prefect and MLflow, in this process and those that it starts, know user and password.

    Call it before Prefect is imported, which reads its variables once. Where only Prefect's own password is set, for the server,
    its clients on this host get the same.

    Raises:
        SettingError: `RETRAIN_AUTH` names no password.
    """
    credentials = Credentials.from_environment()
    if credentials:
        # Processes work in folders of their own, so a relative path would name another file there.
        file = Path(str(Environment.read().auth).partition(":")[2]).expanduser().absolute()
        os.environ[VARIABLE] = f"{credentials.user}:{file}"
        os.environ[SERVER_VARIABLE] = os.environ[CLIENT_VARIABLE] = credentials.basic
        os.environ["MLFLOW_TRACKING_USERNAME"] = credentials.user
        os.environ["MLFLOW_TRACKING_PASSWORD"] = credentials.password
    elif os.environ.get(SERVER_VARIABLE):
        os.environ.setdefault(CLIENT_VARIABLE, os.environ[SERVER_VARIABLE])


def authorization() -> dict[str, str]:
    """Return the header by which a client of Prefect's API shows user and password, as Prefect's own client does."""
    joined = os.environ.get(CLIENT_VARIABLE)
    return {"Authorization": f"Basic {base64.b64encode(joined.encode()).decode()}"} if joined else {}


def refused(api: str) -> SettingError:
    """Return the error for an API that wants another user or password."""
    what = "the user and password given are not its own" if os.environ.get(CLIENT_VARIABLE) else "it wants a user and password"
    return SettingError(
        f"the Prefect server at {api} refused the request (401): {what}; "
        f"set {VARIABLE}=USER:FILE as where it was started, or {CLIENT_VARIABLE}"
    )


class RequirePassword:
    """An ASGI application in front of another, which answers 401 to whoever does not show user and password."""

    def __init__(self, app: AsgiApp, *, credentials: Credentials, open_paths: frozenset[str] = frozenset()) -> None:
        """Wrap an application.

        Args:
            app: The application.
            credentials: User and password.
            open_paths: Paths that everybody may ask for, such as that of a health check.
        """
        self._app = app
        self._expected = credentials.basic.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan" or scope.get("path") in self._open_paths or self._is_shown(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [
                (b"www-authenticate", f'Basic realm="{REALM}", charset="UTF-8"'.encode()),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"cache-control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send(
                {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"User and password, please.\n"}
            )

    def _is_shown(self, scope: Scope) -> bool:
        value = next((content for name, content in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            shown = base64.b64decode(token.strip(), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(shown, self._expected)


def prepare_mlflow(credentials: Credentials, *, folder: Path) -> dict[str, str]:
    """Write MLflow's own settings of users, make its only user the one of the service, and return the variables of its server.

    MLflow takes a password from its settings once, when it makes its first user. So that a new password in the file holds after a
    restart, and a former user is let in no longer, both are put right in its database of users. Other users, whom people made by
    MLflow itself, stay.

    Args:
        credentials: User and password.
        folder: Local folder for the settings and the database.
    """
    file, database = folder / "mlflow-auth.ini", folder / "mlflow-auth.db"
    former = configparser.ConfigParser()
    former.read(file)
    former_user = former.get("mlflow", "admin_username", fallback=credentials.user)
    address = f"sqlite:///{database.absolute()}"
    settings = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": address,
        "admin_username": credentials.user,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "grant_default_workspace_access": "false",
        "auth_cache_ttl_seconds": str(MLFLOW_CACHE_S),
    }
    lines = [f"{name} = {value.replace('%', '%%')}" for name, value in settings.items()]
    database.touch(mode=0o600)
    _set_mlflow_user(address, credentials=credentials, former_user=former_user)
    write_atomically(file, "\n".join(["[mlflow]", *lines, ""]).encode())
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_AUTH_ADMIN_USERNAME": credentials.user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": credentials.password,
        # Signs the token of its one form; a new one at each start is as good as a lasting one.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }


def _set_mlflow_user(address: str, *, credentials: Credentials, former_user: str) -> None:
    users = open_mlflow_users(address)
    try:
        if former_user != credentials.user and users.has_user(former_user):
            users.delete_user(former_user)
        if not users.has_user(credentials.user):
            users.create_user(credentials.user, credentials.password, is_admin=True)
        elif not (users.authenticate_user(credentials.user, credentials.password) and users.get_user(credentials.user).is_admin):
            users.update_user(credentials.user, password=credentials.password, is_admin=True)
    finally:
        users.engine.dispose()


def open_mlflow_users(address: str) -> Any:
    """Open MLflow's database of users, and make or migrate its tables."""
    from storage.mlflow_compat import quiet

    with quiet():
        # A note of Alembic to the authors of MLflow's settings.
        warnings.filterwarnings("ignore", message="No path_separator found in configuration", category=DeprecationWarning)
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

        users = SqlAlchemyStore()
        users.init_db(address)
    return users
