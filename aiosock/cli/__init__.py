"""
The command line: `aiosock URL` and `aiosock demo`.
"""
