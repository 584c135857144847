"""
``python -m aiosock``: the same as the command ``aiosock``, and nothing of its own.
"""

import sys

from aiosock.cli import main

if __name__ == "__main__":
    sys.exit(main())
