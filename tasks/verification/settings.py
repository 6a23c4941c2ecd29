"""What a person can set of a verification."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from tasks.config import Settings


class VerificationSettings(Settings):
    """What is done with what is found damaged."""

    model_config = ConfigDict(title="Verification")

    repair: bool = Field(
        default=False,
        description="Make again what can be made again, and put damaged checkpoints and raw files aside. Without it nothing is "
        "changed.",
    )
