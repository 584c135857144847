"""
Help for testing code that talks HTTP: stand-ins for the network, recordings, and a scripted server on loopback.

    def answer(request):
        return reply(json={"path": request.target})

    async with aiosock.Client(transport=MockTransport(answer)) as client:
        ...                                   # nothing goes over the network

    async def script(peer):
        request = await peer.read_request()
        assert request.target == "/hello"
        await peer.send(response(body=b"hi"))

    async with Server(script) as server:
        ...                                   # a client asks for server.url + "/hello"

What the server sends is exactly what its script says, so it can also be wrong, late, cut off, or nothing at
all. `ASGITransport` calls an application in place of the network, and `Recorder` plays back what servers once said.
`aiosock.testing.plugin` has fixtures for pytest.

Only tests and demonstrations use this package; the library never imports it. A name is loaded when it is first used,
so that the plugin costs a run of pytest next to nothing.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiosock.testing.answers import reply
    from aiosock.testing.asgi import ASGITransport
    from aiosock.testing.certificates import Certificates, ClientCertificate
    from aiosock.testing.message import BadRequest, ReceivedRequest, response
    from aiosock.testing.mock import MockTransport
    from aiosock.testing.recorder import Recorder
    from aiosock.testing.server import IncomingBody, Peer, Server
    from aiosock.testing.site import site

__all__ = [
    "ASGITransport",
    "BadRequest",
    "Certificates",
    "ClientCertificate",
    "IncomingBody",
    "MockTransport",
    "Peer",
    "ReceivedRequest",
    "Recorder",
    "Server",
    "reply",
    "response",
    "site",
]

# Hidden from type checkers, so that they find a name that does not exist.
if not TYPE_CHECKING:
    import sys

    _HOMES = {
        "reply": "answers",
        "ASGITransport": "asgi",
        **dict.fromkeys(("Certificates", "ClientCertificate"), "certificates"),
        **dict.fromkeys(("BadRequest", "ReceivedRequest", "response"), "message"),
        "MockTransport": "mock",
        "Recorder": "recorder",
        **dict.fromkeys(("IncomingBody", "Peer", "Server"), "server"),
        "site": "site",
    }

    class _Package(ModuleType):
        """The package; its ``site`` is the script, also when the module of that name is imported."""

        def __setattr__(self, name: str, value: object) -> None:
            if name == "site" and isinstance(value, ModuleType):
                value = value.site
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package

    def __getattr__(name: str) -> object:
        """Load a public name, which is then there."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
