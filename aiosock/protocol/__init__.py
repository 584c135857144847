"""
Sans-IO state machines: bytes in, events out, and back.

Nothing here waits, opens a socket or asks for the time; what a protocol needs of the world is an argument.
"""
