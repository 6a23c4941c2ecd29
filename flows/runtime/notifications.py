"""Channels that tell people what happened: each is a block of Prefect with the secret address, and automations that use it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from flows.runtime.automations import AUTOMATIONS, ask
from storage.errors import RetrainError, SettingError, unknown

if TYPE_CHECKING:
    from prefect.blocks.core import Block

Service = Literal["slack", "teams", "email", "webhook"]
SERVICES: tuple[Service, ...] = get_args(Service)
# What a channel is told of where a person names nothing: what somebody has to act on, and every new champion.
USUAL_KINDS = ("failed", "rejected", "late", "stale", "champion", "loses", "waiting", "fault", "drift", "performance")
BLOCK_PREFIX = "retrain-notify-"
SUBJECT_CHARACTERS, LINE_CHARACTERS = 70, 100
TEST_SUBJECT = "retrain: this channel works"
TEST_TEXT = "A test message. What it will be told of: retrain notify list."

_OF_AUTOMATION = frozenset(
    ["name", "description", "enabled", "tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve"]
)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# What an address must begin with, and how it is told to a person.
_FORMS: Mapping[str, tuple[str, str]] = {
    "slack": (r"https://hooks\.slack(-gov)?\.com/services/\w+/\w+/\w+/?$", "https://hooks.slack.com/services/..."),
    "teams": (
        r"https://[^/]+/.*workflows/.+/triggers/manual/paths/invoke/?\?",
        "the address of a Workflow, https://.../workflows/...",
    ),
    "email": (r"mailtos?://", "mailtos://USER:PASSWORD@HOST:PORT?from=SENDER&to=RECEIVER"),
    "webhook": (r"https?://", "http:// or https://"),
}


@dataclass(frozen=True)
class Channel:
    """A place where messages go.

    Attributes:
        kinds: What it is told of.
    """

    name: str
    service: str
    kinds: tuple[str, ...]


def message_kinds() -> dict[str, dict[str, Any]]:
    """Return what a channel can be told of, by kind: description, trigger, subject and text."""
    import yaml

    return dict(yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["notifications"])


def add_channel(api: str, *, service: str, name: str, address: str, kinds: Sequence[str]) -> Channel:
    """Send a test message to an address, and if it is accepted store the address and tell the channel of some kinds from now on.

    Args:
        api: Prefect API.
        service: One of `SERVICES`.
        name: Name of the channel, lower-case letters, digits and dashes.
        address: Secret address; it goes into the block of the channel alone.
        kinds: What the channel is told of.

    Raises:
        SettingError: A value cannot be, or the name is taken. No message holds the address.
        RetrainError: The test message was not accepted; nothing was stored.
    """
    if service not in SERVICES:
        raise unknown("service", service, where="retrain notify", choices=SERVICES)
    if not _NAME.fullmatch(name):
        raise SettingError(f"--name is {name!r}, expected lower-case letters, digits and dashes: such as on-call")
    templates = message_kinds()
    for kind in kinds:
        if kind not in templates:
            raise unknown("kind", kind, where="--on", choices=templates)
    pattern, form = _FORMS[service]
    if not re.match(pattern, address):
        raise SettingError(f"the address is none of {service}: expected {form}")
    if any(channel.name == name for channel in list_channels(api)) or _block_id(api, name):
        raise SettingError(
            f"there is a channel {name!r} already: remove it (retrain notify remove {name}), or give another --name"
        )
    block = _make_block(service, address=address)
    _send_test(block, name=name)
    cast("Any", block).save(_block_name(service, name))
    block_id = _block_id(api, name)
    for kind in kinds:
        ask(
            api,
            "/automations/",
            _automation(kind, template=templates[kind], channel=name, service=service, block_id=str(block_id)),
        )
    return Channel(name, service, tuple(kinds))


def list_channels(api: str) -> list[Channel]:
    """Return the channels with what each is told of, by name."""
    services = {name: service for _, service, name in _blocks(api)}
    kinds: dict[str, list[str]] = {name: [] for name in services}
    for automation in ask(api, "/automations/filter", {"sort": "NAME_ASC"}):
        name = _channel_of(automation)
        if name in kinds and automation["enabled"]:
            kinds[name].append(automation["name"].rpartition(" ")[2])
    return [Channel(name, services[name], tuple(kinds[name])) for name in sorted(services)]


def send_test(api: str, name: str) -> None:
    """Send a test message to a channel, with the address that is stored.

    Raises:
        SettingError: There is no such channel.
        RetrainError: The message was not accepted.
    """
    _send_test(_load_block(api, name), name=name)


def remove_channel(api: str, name: str) -> None:
    """Remove a channel: its automations, then the block with its address.

    Raises:
        SettingError: There is no such channel.
    """
    block_id = _block_id(api, name)
    automations = [entry for entry in ask(api, "/automations/filter", {}) if _channel_of(entry) == name]
    if block_id is None and not automations:
        raise _absent(api, name)
    for automation in automations:
        ask(api, f"/automations/{automation['id']}", method="DELETE")
    if block_id:
        ask(api, f"/block_documents/{block_id}", method="DELETE")


def renew_channels(api: str) -> None:
    """Let every channel be told of what has come to its kinds since it was added, such as another name of a state."""
    templates = message_kinds()
    for automation in ask(api, "/automations/filter", {}):
        template = templates.get(automation["name"].rpartition(": ")[2], {}) if _channel_of(automation) else {}
        expected = set(template.get("trigger", {}).get("expect", ()))
        # Something else than a part of it was set by a person.
        if set(automation["trigger"].get("expect", ())) < expected:
            automation["trigger"]["expect"] = sorted(expected)
            body = {field: value for field, value in automation.items() if field in _OF_AUTOMATION}
            ask(api, f"/automations/{automation['id']}", body, method="PUT")


def _automation(kind: str, *, template: Mapping[str, Any], channel: str, service: str, block_id: str) -> dict[str, Any]:
    """Return the automation that tells a channel of one kind."""
    subject = f"{{% set subject %}}{template['subject']}{{% endset %}}"
    text = f"{{% set text %}}{template['text']}{{% endset %}}"
    short_subject = f"{subject}{{{{ subject | string | truncate({SUBJECT_CHARACTERS}, true, '…', 0) }}}}"
    short_text = f"{text}{{{{ text | string | truncate({LINE_CHARACTERS}, true, '…', 0) }}}}"
    page = "{% if flow_run %}{{ flow_run | ui_url }}{% endif %}"
    action: dict[str, Any] = {"block_document_id": block_id}
    if service == "webhook":
        payload = (
            f"{{% set kind = '{kind}' %}}{{% set short_subject %}}{short_subject}{{% endset %}}"
            f"{{% set short_text %}}{short_text}{{% endset %}}{{% set page %}}{page}{{% endset %}}"
            '{"kind": {{ kind | tojson }}, "subject": {{ short_subject | string | tojson }}, '
            '"text": {{ short_text | string | tojson }}, "page": {{ page | string | tojson }}}'
        )
        action |= {"type": "call-webhook", "payload": payload}
    else:
        action |= {"type": "send-notification", "subject": short_subject, "body": f"{short_text}\n{page}"}
    trigger = {"type": "event", "posture": "Reactive", "for_each": ["prefect.resource.id"], "threshold": 1, "within": 0}
    return {
        "name": f"notify {channel}: {kind}",
        "description": f"Tells the channel {channel} that {template['description']}.",
        "enabled": True,
        "trigger": trigger | template["trigger"],
        "actions": [action],
    }


def _block_class(service: str) -> Any:
    """Return the class of a service's blocks.

    For e-mail it is that of Slack too, because it gives any address of another service to Apprise, which sends e-mail by SMTP.
    """
    from prefect.blocks.notifications import MicrosoftTeamsWebhook, SlackWebhook
    from prefect.blocks.webhook import Webhook

    return {"webhook": Webhook, "teams": MicrosoftTeamsWebhook}.get(service, SlackWebhook)


def _make_block(service: str, *, address: str) -> Block:
    from pydantic import SecretStr

    try:
        return cast("Block", _block_class(service)(url=SecretStr(address)))
    except ValueError:
        raise SettingError(f"the address is none of {service}: expected {_FORMS[service][1]}") from None


def _send_test(block: Block, *, name: str) -> None:
    """Send the test message. What a library says of a failure may hold the address, so it is not passed on."""
    import asyncio

    anonymous: Any = block
    refusal = None
    try:
        if hasattr(anonymous, "call"):
            payload = {"kind": "test", "subject": TEST_SUBJECT, "text": TEST_TEXT, "page": ""}
            answer = asyncio.run(anonymous.call(payload))
            refusal = None if answer.status_code < 300 else f"it answered with status {answer.status_code}"
        else:
            with anonymous.raise_on_failure():
                anonymous.notify(body=TEST_TEXT, subject=TEST_SUBJECT)
    except Exception as error:
        refusal = f"{type(error).__name__} while it was sent"
    if refusal:
        raise RetrainError(
            f"the test message to {name!r} was not accepted: {refusal}; check the address and whether its host can be reached"
        )


def _load_block(api: str, name: str) -> Block:
    service = next((service for _, service, known in _blocks(api) if known == name), None)
    if service is None:
        raise _absent(api, name)
    return cast("Block", _block_class(service).load(_block_name(service, name)))


def _block_name(service: str, name: str) -> str:
    return f"{BLOCK_PREFIX}{service}-{name}"


def _blocks(api: str) -> list[tuple[str, str, str]]:
    """Return id, service and name of the block of every channel."""
    blocks = ask(api, "/block_documents/filter", {"include_secrets": False, "limit": 200})
    parts = [
        (str(block["id"]), str(block["name"]).removeprefix(BLOCK_PREFIX).partition("-"))
        for block in blocks
        if str(block["name"]).startswith(BLOCK_PREFIX)
    ]
    return [(block_id, service, name) for block_id, (service, _, name) in parts]


def _block_id(api: str, name: str) -> str | None:
    return next((block_id for block_id, _, known in _blocks(api) if known == name), None)


def _channel_of(automation: Mapping[str, Any]) -> str | None:
    match = re.fullmatch(r"notify (\S+): \S+", automation["name"])
    return match[1] if match else None


def _absent(api: str, name: str) -> SettingError:
    listed = ", ".join(channel.name for channel in list_channels(api)) or "none yet: retrain notify add"
    return SettingError(f"unknown channel {name!r}: channels are {listed}")
