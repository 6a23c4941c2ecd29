"""Create the automations of `flows/runtime/configuration/automations.yaml` on a Prefect server."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flows.runtime.authentication import authorization, refused
from storage.errors import NoAnswerError, SettingError
from storage.redaction import without_secrets

# Once, on two cores with much else to do, a server was seen to take longer.
ANSWER_S = 30
AUTOMATIONS = Path(__file__).with_name("configuration") / "automations.yaml"


def ask(api: str, path: str, body: Mapping[str, Any] | list[Any] | None = None, *, method: str | None = None) -> Any:
    """Return the JSON that a Prefect API answers; a request with a body is a POST where no method is named.

    Raises:
        SettingError: The server wants another user or password, or its certificate is not trusted.
        NoAnswerError: The server does not answer.
        urllib.error.HTTPError: The server refused the request.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}{path}", data=data, headers={"Content-Type": "application/json"}, method=method)  # noqa: S310
    for name, value in authorization().items():
        request.add_unredirected_header(name, value)  # whoever a server sends us on to gets no password
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  (an address of our own)
            content = answer.read()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            error.close()
            raise refused(api) from None
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise SettingError(
                f"the certificate of {api} is not trusted ({error.reason.verify_message}): "
                "name a file of the authorities that you trust in SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
            ) from None
        raise _no_answer(api, error.reason) from error
    except (OSError, http.client.HTTPException) as error:  # while the answer is waited for or read
        raise _no_answer(api, error) from error
    return json.loads(content) if content else None


def _no_answer(api: str, reason: object) -> NoAnswerError:
    return NoAnswerError(
        f"Prefect's server at {without_secrets(api)} does not answer ({reason}; it is given {ANSWER_S} s): "
        "see by `retrain status` whether it runs, and try again when the machine is less busy"
    )


def check_access(api: str) -> None:
    """Ask a Prefect API for what is told only to who may come in; whether it answers at all is for others to notice.

    Raises:
        SettingError: The server wants another user or password, or its certificate is not trusted.
    """
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):  # ValueError: it is no address, or no JSON
        ask(api, "/admin/version")


def deploy_automations(api: str) -> None:
    """Create the automations that do not exist yet, and remove those of before; what a person changed in one stays."""
    import yaml

    wanted = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))
    existing = {entry["name"]: entry for entry in ask(api, "/automations/filter", {})}
    for automation in wanted["automations"]:
        if automation["name"] not in existing:
            for action in automation["actions"]:
                if "deployment" in action:
                    action["deployment_id"] = _deployment(api, action.pop("deployment"))
            ask(api, "/automations/", automation)
    for name in wanted["removed"]:
        if name in existing:
            ask(api, f"/automations/{existing[name]['id']}", method="DELETE")


def _deployment(api: str, name: str) -> str:
    """Return the id of a deployment by the names of its flow and its own, such as `train/train`."""
    return str(ask(api, f"/deployments/name/{name}")["id"])
