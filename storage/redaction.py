"""Keep passwords and tokens out of messages, logs and stored files."""

from __future__ import annotations

import logging
import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "***"

# A password may hold an `@` that should have been written as %40: up to the last one before the path.
# An example in a message names its parts in capital letters.
_USER = re.compile(r"(?<=://)(?!USER:PASSWORD@)[^/\s?#'\"]+@")
_PARAMETER = re.compile(
    r"([?&;][^=&;\s'\"]*(?:token|key|secret|password|passwd|pwd|sig|signature|credential|auth)[^=&;\s'\"]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SECRET_VARIABLE = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|ACCESS_KEY$")
# A shorter one would be found in ordinary words.
_MIN_CHARACTERS = 6


def without_secrets(address: str) -> str:
    """Return an address without user, password, query and fragment; a path as it is."""
    try:
        parts = urlsplit(address)
    except ValueError:  # no address at all, such as http://[
        return _USER.sub("", address.partition("?")[0])
    if not parts.netloc or "://" not in address:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def hide_user(address: str) -> str:
    """Return an address with all that stands before its last `@` hidden, also where a password makes it no address."""
    scheme, mark, rest = address.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{HIDDEN}{at}{host}" if at else address


def redact(text: str) -> str:
    """Return a text in which users and passwords of addresses, tokens in them, and secrets of the environment are hidden."""
    text = _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))
    for secret in _secrets_of_environment():
        text = text.replace(secret, HIDDEN)
    return text


def printable(text: str) -> str:
    """Return a text whose control characters are written out: those of a strange file could rewrite a person's terminal.

    Line ends and tabs stay; marks that turn the direction of writing do not.
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _secrets_of_environment() -> list[str]:
    """Return the passwords and tokens in the environment, the longest first: one may hold another."""
    secrets: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name):
            secrets |= {value, value.partition(":")[2]}
        elif "://" in value:
            # A password with a slash, which should have been written as %2F, seems to be a port and a path.
            password = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
            secrets |= {password, unquote(password)}
    return sorted((secret for secret in secrets if len(secret) >= _MIN_CHARACTERS), key=len, reverse=True)


class RedactingFilter(logging.Filter):
    """Hide secrets in the records of a logger, and write control characters out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its redacted form; every record passes."""
        message = record.getMessage()
        redacted = printable(redact(message))
        if redacted != message:
            record.msg, record.args = redacted, ()
        return True
