"""
Every exception that aiosock raises.

    AiosockError
    ├── UsageError                the caller broke the contract
    │   ├── InvalidURL            a URL that cannot be requested
    │   ├── InvalidHeader         a header field that may not go on the wire
    │   ├── ResponseNotRead       content, text or json() before the body was read
    │   ├── StreamConsumed        the body was already given out once
    │   ├── BodyNotReplayable     the request body would have to be sent twice, and can't be
    │   ├── ClientClosed          the client was closed
    │   └── LocalProtocolError    what we were asked to send is not HTTP
    ├── RequestError              a request failed; ``.request`` says which
    │   ├── TimeoutException      also a TimeoutError
    │   │   ├── ConnectTimeout    DNS, TCP, proxy and TLS together
    │   │   ├── ReadTimeout       nothing came for so long
    │   │   ├── WriteTimeout      nothing could be sent for so long
    │   │   ├── PoolTimeout       the queue for a connection did not move for so long, or a rate allows it too late
    │   │   └── TotalTimeout      the whole request took too long
    │   ├── NetworkError
    │   │   ├── ConnectError      no connection came about
    │   │   │   ├── DNSError      the name has no address
    │   │   │   ├── TLSError      no trusted TLS connection came about
    │   │   │   └── ProxyError    the proxy refused, or could not be reached
    │   │   ├── ReadError         the connection broke while reading
    │   │   │   └── TruncatedStream   TLS ended without saying so
    │   │   └── WriteError        the connection broke while sending
    │   ├── ProtocolError
    │   │   └── RemoteProtocolError   the server's answer is not HTTP
    │   │       ├── ServerDisconnected    the connection ended before an answer
    │   │       ├── IncompleteBody        the answer was cut short
    │   │       └── HeadTooLarge          the answer's head passes a limit
    │   ├── DecodingError         the body is not what its coding says
    │   │   └── ContentTooLarge   the body passes ``Limits.max_content_bytes``
    │   ├── TooManyRedirects
    │   ├── BlockedAddress        the guard refused the address
    │   └── CircuitOpen           the origin failed too often of late, and is not asked for now
    └── HTTPStatusError           raise_for_status(); has .request and .response

A message says what happened, to which host, the value seen and the limit. It never carries a credential,
a query string or a cookie.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from aiosock.message.request import Request
    from aiosock.message.response import Response


class AiosockError(Exception):
    """The root: ``except AiosockError`` catches whatever this library raises on purpose."""


class UsageError(AiosockError):
    """The caller broke the contract; trying again will not help."""


class InvalidURL(UsageError):
    """The URL cannot be requested; the message shows the offending part (RFC 3986)."""


class InvalidHeader(UsageError):
    """A field name or value that may not go on the wire (RFC 9110, 5.1 and 5.5)."""


class ResponseNotRead(UsageError):
    """``content``, ``text`` or ``json()`` was asked of a response whose body has not been read."""


class StreamConsumed(UsageError):
    """The body can be iterated once, and was."""


class BodyNotReplayable(UsageError):
    """The request body has to be sent again (a redirect, say) but its source can be read only once."""


class ClientClosed(UsageError):
    """The client was closed before or while the request was made."""


class LocalProtocolError(UsageError):
    """What we were asked to send would break HTTP (RFC 9112)."""


class Attempt(NamedTuple):
    """
    One try of a request that may be tried several times.

    Attributes:
        number: Which try, from 1.
        status_code: The status of its answer, None where there was none.
        error: The kind of its error and what that says, None where there was an answer.
        waited: Seconds between the end of the try before and this one.
    """

    number: int
    status_code: int | None
    error: str | None
    waited: float


class RequestError(AiosockError):
    """
    A request failed.

    Attributes:
        request: The request that failed, or None where the error arose outside of one.
        attempts: All tries, this failure being the last; empty where retries are off.
    """

    request: Request | None = None
    attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        message = super().__str__()
        if self.request is None:
            return message
        url = self.request.url.with_query(None).with_fragment(None)
        return f"{message} [{self.request.method} {url}]"


class TimeoutException(RequestError, TimeoutError):
    """A deadline passed. Also a builtin ``TimeoutError``."""


class ConnectTimeout(TimeoutException):
    """DNS, TCP, proxy and TLS together took longer than ``Timeout.connect``."""


class ReadTimeout(TimeoutException):
    """No byte came for ``Timeout.read`` seconds."""


class WriteTimeout(TimeoutException):
    """No byte could be sent for ``Timeout.write`` seconds."""


class PoolTimeout(TimeoutException):
    """
    The request did not get out of a queue of our own: that for a connection did not move for ``Timeout.pool`` seconds,
    or a rate limit would let it go only after its time.
    """


class TotalTimeout(TimeoutException):
    """The request took longer than ``Timeout.total``."""


class NetworkError(RequestError):
    """The network failed."""


class ConnectError(NetworkError):
    """No connection came about; where several addresses were tried, each is named with its reason."""


class DNSError(ConnectError):
    """The host name could not be resolved."""


class TLSError(ConnectError):
    """The TLS handshake failed, or the certificate is not to be trusted."""


class ProxyError(ConnectError):
    """
    The proxy could not be reached, did not speak its protocol, or refused to connect.

    Attributes:
        status_code: The status of an HTTP proxy's refusal, else None.
        response: The refusal with the part of its body that was read, else None.
    """

    status_code: int | None = None
    response: Response | None = None


class ReadError(NetworkError):
    """The connection broke while reading."""


class TruncatedStream(ReadError):
    """The connection ended without the TLS close_notify that would make its end trustworthy."""


class WriteError(NetworkError):
    """The connection broke while sending."""


class ProtocolError(RequestError):
    """The exchange broke the rules of HTTP."""


class RemoteProtocolError(ProtocolError):
    """
    The server's answer breaks the rules of HTTP.

    Attributes:
        response: The response concerned, where its head was understood, else None.
    """

    response: Response | None = None


class ServerDisconnected(RemoteProtocolError):
    """The server closed the connection before it answered."""


class IncompleteBody(RemoteProtocolError):
    """The answer was cut short: the connection ended before its body did."""


class HeadTooLarge(RemoteProtocolError):
    """The head of the answer passes a limit on bytes or fields."""


class DecodingError(RequestError):
    """The body is not what its content coding or transfer coding says."""


class ContentTooLarge(DecodingError):
    """The decoded body passes ``Limits.max_content_bytes``."""


class TooManyRedirects(RequestError):
    """
    More redirects than ``max_redirects``.

    Attributes:
        response: The redirect that was one too many.
    """

    response: Response | None = None


class BlockedAddress(RequestError):
    """The guard refused to connect to the address."""


class CircuitOpen(RequestError):
    """
    The origin failed too often of late: a circuit breaker does not ask it for now.

    Attributes:
        retry_after: Seconds until it is asked again; 0 where somebody is asking, and the outcome is awaited.
    """

    retry_after: float = 0.0


class HTTPStatusError(AiosockError):
    """
    ``raise_for_status()`` met a 4xx or 5xx answer.

    Attributes:
        request: The request.
        response: The response.
    """

    def __init__(self, message: str, *, request: Request, response: Response) -> None:
        super().__init__(message)
        self.request = request
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), request=self.request, response=self.response), self.args
