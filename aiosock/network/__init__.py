"""
The only room with sockets, TLS and name resolution.

It knows nothing of HTTP. No raw `OSError` or `ssl.SSLError` leaves it: each becomes an error of
`aiosock.errors`, raised from the original.
"""
