"""Which addresses a channel takes, and that what it makes is an automation and a block of Prefect."""

from __future__ import annotations

import re

import pytest
from prefect.events.schemas.automations import AutomationCore

from flows.runtime.notifications import _FORMS, SERVICES, USUAL_KINDS, _automation, _make_block, add_channel, message_kinds
from storage.errors import SettingError

WORKFLOW = "https://prod-7.westeurope.logic.azure.com:443/workflows/0f9c/triggers/manual/paths/invoke?api-version=2016-06-01&sp=r&sv=1.0&sig=k"
GOOD = {
    "slack": "https://hooks.slack.com/services/T0123/B4567/abcDEF123",
    "teams": WORKFLOW,
    "email": "mailtos://user:word@mail.example.org:587?from=a@example.org&to=b@example.org",
    "webhook": "https://example.org/hook",
}
BLOCK = "6d1f7c0e-3c7b-4d5a-8a51-0d6a6b4f7a10"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise uses it where Python has it
@pytest.mark.parametrize("service", SERVICES)
def test_an_address_of_each_service_becomes_a_block_that_hides_it(service: str) -> None:
    assert re.match(_FORMS[service][0], GOOD[service])
    assert GOOD[service] not in repr(_make_block(service, address=GOOD[service]))


@pytest.mark.parametrize("service", SERVICES)
def test_an_address_of_another_service_is_refused_without_being_shown(service: str) -> None:
    for address in (
        *(GOOD[other] for other in SERVICES if service not in (other, "webhook")),
        "ftp://secret.example.org",
    ):
        with pytest.raises(SettingError, match=f"the address is none of {service}: expected ") as refused:
            add_channel("http://127.0.0.1:9/api", service=service, name=service, address=address, kinds=("failed",))
        assert address not in str(refused.value)


@pytest.mark.parametrize("kind", message_kinds())
@pytest.mark.parametrize("service", ["slack", "webhook"])
def test_every_kind_makes_an_automation(kind: str, service: str) -> None:
    made = _automation(kind, template=message_kinds()[kind], channel="team", service=service, block_id=BLOCK)
    automation = AutomationCore.model_validate(made)
    assert automation.name == f"notify team: {kind}"
    assert [action.type for action in automation.actions] == ["call-webhook" if service == "webhook" else "send-notification"]


def test_a_channel_is_told_of_what_somebody_must_act_on() -> None:
    assert set(USUAL_KINDS) == message_kinds().keys() - {"success"}
