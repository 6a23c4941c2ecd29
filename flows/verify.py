"""The flow `verify`: it compares everything in the store with the checksums that it was written with."""

from typing import cast

from prefect import flow

from flows.states import run_of_project, verified_state
from tasks.verification import steps as verification_steps
from tasks.verification.report import VerifiedRef, summary_of
from tasks.verification.settings import VerificationSettings


@flow(name="verify", flow_run_name="verify")
@run_of_project
def verify(settings: VerificationSettings = VerificationSettings()) -> VerifiedRef:  # noqa: B008  (frozen)
    """Read every file of the store and of its registry, and make again what is damaged. It fails if damage is left.

    Args:
        settings: Whether anything is repaired.
    """
    result = verification_steps.show(verification_steps.compare(settings))
    return cast("VerifiedRef", verified_state(summary_of(result), result=result, is_whole=not result.left))
