"""
Help for testing code that talks HTTP: a scripted server on loopback, certificates, and a small site.

    async def script(peer):
        request = await peer.read_request()
        assert request.target == "/hello"
        await peer.send(response(body=b"hi"))

    async with Server(script) as server:
        ...                                   # a client asks for server.url + "/hello"

What the server sends is exactly what its script says, so it can also be wrong, late, cut off, or nothing at
all. Only tests and demonstrations use this package; the library never imports it.
"""

from aiosock.testing.certificates import Certificates, ClientCertificate
from aiosock.testing.server import BadRequest, IncomingBody, Peer, ReceivedRequest, Server, response
from aiosock.testing.site import site

__all__ = [
    "BadRequest",
    "Certificates",
    "ClientCertificate",
    "IncomingBody",
    "Peer",
    "ReceivedRequest",
    "Server",
    "response",
    "site",
]
