"""
Protocols pumped over streams: bytes out, bytes in, events up.

A connection knows nothing of other connections, nor of who may use it next.
"""
