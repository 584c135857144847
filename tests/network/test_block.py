"""
Blocks, and the memory of them.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's way with memory")
def test_the_memory_of_bodies_is_kept_for_the_next_ones() -> None:
    program = """
import resource
from aiosock.network.block import keep_memory

def receive():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bodies = [bytearray(2**20) for _ in range(8)]
    del bodies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
receive()
assert receive() < 8 * 256 / 4
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
