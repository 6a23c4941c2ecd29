"""The values of the settings that offer a choice.

This module imports nothing, so that `retrain --help` can show the choices without loading pandas.
"""

from typing import Literal

DataOrigin = Literal["auto", "upstream", "mirror", "sample"]
RunOn = Literal["local", "work_pool"]
SplitRule = Literal["shares", "recent"]
PromoteMode = Literal["auto", "manual", "never"]
Verdicts = Literal["promote", "reject"]
