"""
Types that are loaded when somebody asks for them at run time, by `typing.get_type_hints`, and not before.

What a signature names need not be imported with it, which takes time; but who reads signatures (to inject what they
ask for, or to check calls) has to find every name in the module.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, ForwardRef


@cache
def late(module: str, name: str) -> ForwardRef:
    """
    Return what stands for a type until it is asked for.

    Args:
        module: Where it is.
        name: What it is called there.
    """
    return ForwardRef(f"__import__({__name__!r}, fromlist=['load']).load({module!r}, {name!r})")


def load(module: str, name: str) -> Any:
    """Return a type; of an alias that is written as a string, what that means where it stands."""
    home = vars(import_module(module))
    found = home[name]
    return eval(found, home) if isinstance(found, str) else found  # noqa: S307  # from our own source
