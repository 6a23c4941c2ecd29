"""The flow `approve`: a version that passed every check waits in the Prefect UI until a person promotes or rejects it.

It is a run of its own and not a pause of the run that trained the version. A suspended run starts again from its top when it is
resumed: a retrain would fetch newer data and train something else than what the person saw. And while a retrain waits, its
deployment, of which one run goes at a time, could not start the next one.
"""

from contextlib import suppress
from dataclasses import replace
from typing import cast

from prefect import flow, suspend_flow_run
from prefect.client.schemas import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput, keyset_from_base_key
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from pydantic import ValidationError

from flows.states import limit_restarts, run_of_project
from storage.retries import wait_while_away
from tasks.config import ApprovalRequest, PromotionSettings, Verdict
from tasks.promotion import steps as promotion_steps
from tasks.promotion.rule import Decision

DEPLOYMENT = "approve/approve"
DAY_S = 24 * 3600


class VerdictForm(RunInput, Verdict):
    """The form that the UI shows at Resume."""


@flow(name="approve", flow_run_name="approve {request.model}")
@run_of_project
def approve(request: ApprovalRequest) -> Decision:
    """Wait, without a process, until a person presses Resume and fills in the form, and then do what the person says.

    Args:
        request: The version that waits, and what speaks for it.
    """
    limit_restarts()
    form = VerdictForm.with_initial_data(description=f"**{request.model}** waits. {request.grounds}")
    wait_s = round(request.wait_days * DAY_S)
    answer = _answer() or suspend_flow_run(wait_for_input=form, timeout=wait_s, key=str(flow_run.run_count))
    decision = promotion_steps.carry_out(request, Verdict(**answer.model_dump(include=set(Verdict.model_fields))))
    return cast("Decision", Completed(message=decision.reason, data=decision))


def _answer() -> VerdictForm | None:
    """Return what a person has answered to an earlier start of this run; None if nobody has.

    Each start suspends the run under a key of its own. Under one key for all, a run that crashed while it waited would go on
    without an answer.
    """
    for start in range(1, int(flow_run.run_count or 1)):
        with suppress(ValidationError):  # the start crashed before anybody answered
            return cast("VerdictForm", VerdictForm.load(keyset_from_base_key(f"suspended-{start}")))
    return None


def hand_over(decision: Decision, *, model: str, settings: PromotionSettings) -> Decision:
    """Start the run that waits for a person, if a decision needs one and this is a run of a deployment.

    A run of the command has no deployment: its message names `retrain promote`, as before. An equal decision finds the run that
    already waits, or that somebody has answered.

    Returns:
        The decision, whose reason names the waiting run if there is one.
    """
    if decision.outcome != "manual" or not deployment.id:
        return decision
    version = f"{model}@{(decision.refit or decision.candidate).removeprefix('v')}"
    request = ApprovalRequest(model=version, champion=decision.champion, grounds=decision.reason, wait_days=settings.wait_days)
    try:
        run = cast(
            "FlowRun",
            wait_while_away(run_deployment)(
                DEPLOYMENT,
                parameters={"request": request.model_dump()},
                idempotency_key=f"approve {version} in the place of {decision.champion}",
                timeout=0,
                as_subflow=False,
            ),
        )
    except ObjectNotFound:
        return decision  # a server without this deployment: the message names `retrain promote`
    if run.state and run.state.is_final():
        return replace(decision, reason=f"{decision.reason}; nobody decided in the run {run.name!r} in time")
    return replace(decision, reason=f"{decision.reason}; or resume the run 'approve {version}' in the Prefect UI")
