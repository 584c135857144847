"""
What tests of whole programs share.
"""

from __future__ import annotations

import re

_slow_step = re.compile(r"Executing <.* took \d+\.\d+ seconds\r?\n")


def without_slow_steps(errors: str) -> str:
    """Return what a program wrote without asyncio's remarks on slow steps: in debug mode a busy machine has some."""
    return _slow_step.sub("", errors)
