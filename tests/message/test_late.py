"""A type that is loaded late is found by who asks for it, and by nobody before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, get_type_hints

from yarl import URL

from aiosock.message.late import late, load

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo
else:
    ZoneInfo = late("zoneinfo", "ZoneInfo")


def told(zone: ZoneInfo | None, zones: Mapping[str, ZoneInfo]) -> ZoneInfo:
    raise AssertionError


def test_a_type_is_found_wherever_it_stands_in_a_signature() -> None:
    from zoneinfo import ZoneInfo

    assert get_type_hints(told) == {"zone": ZoneInfo | None, "zones": Mapping[str, ZoneInfo], "return": ZoneInfo}


def test_nothing_is_loaded_before() -> None:
    program = "import sys; from aiosock.message.late import late; late('zoneinfo', 'ZoneInfo')\n"
    program += "assert 'zoneinfo' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_an_alias_written_as_a_string_means_what_it_means_where_it_stands() -> None:
    from aiosock.message.cookies import Cookies, CookiesInput

    assert isinstance(CookiesInput, str)
    assert Cookies in load("aiosock.message.cookies", "CookiesInput").__args__
    assert load("yarl", "URL") is URL
