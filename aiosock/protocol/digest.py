"""
Digest authentication (RFC 7616, and RFC 2617 and 2069 as servers still have them): challenges to credentials.

Nothing here waits, asks for the time or makes up a random number: the client nonce is an argument.
"""

from __future__ import annotations

import re
from types import EllipsisType
from typing import Final, NamedTuple

from aiosock.errors import UsageError
from aiosock.protocol.challenge import Challenge, encode_credentials, parse_parameters

# Names of hashlib by those of RFC 7616, weakest first.
_HASHES: Final = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}
_STRENGTH: Final = {name: strength for strength, name in enumerate(_HASHES.values())}
_SESSION: Final = "-sess"

# What a server has us repeat with every request.
MAX_VALUE_CHARACTERS: Final = 4096
# A nonce that is stale when it is used first may be one that several share; one after another is a loop.
MAX_FRUITLESS: Final = 3


class _Offer(NamedTuple):
    """A challenge that can be answered."""

    hash: str
    session: bool
    algorithm: str | None
    realm: str
    nonce: str
    qop: str | None
    opaque: str | None
    user_hash: bool
    utf8: bool
    stale: bool


class Answer(NamedTuple):
    """
    What an answer to a challenge was made of.

    Attributes:
        realm: The realm it is for.
        nonce: The server's nonce.
        proven: The server took this nonce with these credentials before, or gave it for them.
    """

    realm: str
    nonce: str
    proven: bool


class Digest:
    """
    Answers the Digest challenges of one server with one user's credentials.

    Args:
        username: The user.
        password: The password; never shown.

    Raises:
        UsageError: One of them is no str, or cannot be encoded.

    Attributes:
        answer: What the last answer was made of, None where none was made since the last challenge.
    """

    __slots__ = (
        "_count",
        "_fruitless",
        "_given",
        "_nonce",
        "_offer",
        "_password",
        "_session_cnonce",
        "_username",
        "answer",
    )

    def __init__(self, username: str, password: str) -> None:
        self._username, self._password = encode_credentials(username, password)
        self.answer: Answer | None = None
        self._offer: _Offer | None = None
        self._nonce = ""
        # The server gave the nonce ahead, to who had shown the right credentials.
        self._given = False
        # How often the nonce was used.
        self._count = 0
        self._session_cnonce: str | None = None
        self._fruitless = 0

    def challenged(self, challenges: list[Challenge], refused: Answer | EllipsisType | None = ...) -> bool:
        """
        Take up the strongest challenge that can be answered, and return whether an answer is worth sending.

        It is not where none can be answered, or where these credentials were refused: the request had them already,
        for this realm, and their nonce is not called stale, nor was it good before. All is forgotten then. A server
        that finds fault with one new nonce after the other is not answered for ever either.

        Args:
            challenges: What the server offers.
            refused: The `answer` that the request had which got these challenges, None where it had none; left out,
                it is the last one, which is right where requests are sent one after another.
        """
        if isinstance(refused, EllipsisType):
            refused = self.answer
        self.answer = None
        offers = [offer for challenge in challenges if (offer := _read_offer(challenge)) is not None]
        # Of equals the first: the server has them in its order.
        offer = max(offers, key=lambda offer: _STRENGTH[offer.hash], default=None)
        if offer is None or (refused is not None and not self._may_repeat(offer, refused)):
            self._offer = None
            self._fruitless = 0
            return False
        self._offer = offer
        self._use(offer.nonce, False)
        return True

    def _may_repeat(self, offer: _Offer, refused: Answer) -> bool:
        if offer.realm == refused.realm:
            if offer.nonce == refused.nonce:
                return False
            # Not every server says so when a nonce has had its time.
            if not offer.stale and not refused.proven:
                return False
        self._fruitless = 0 if refused.proven else self._fruitless + 1
        return self._fruitless <= MAX_FRUITLESS

    def _use(self, nonce: str, given: bool) -> None:
        if nonce != self._nonce:
            self._nonce = nonce
            self._given = given
            self._count = 0
            self._session_cnonce = None

    def authorization(self, method: str, uri: str, cnonce: str, body: bytes | None = None) -> str | None:
        """
        Return the value of Authorization or Proxy-Authorization for a request, None while there is no challenge.

        Args:
            method: The request's method.
            uri: The request target as it goes on the wire.
            cnonce: A client nonce, fresh for each request, of visible ASCII.
            body: All of the request's body, ``b""`` where it has none; None where it is not known, which matters only
                to a server that insists on having the body protected (``qop="auth-int"``).

        Raises:
            UsageError: The server insists, and the body is not known.
        """
        offer = self._offer
        if offer is None:
            return None
        if offer.qop == "auth-int" and body is None:
            raise UsageError(
                "auth: the server takes Digest only with the body protected (auth-int), "
                "which takes a body that is given as bytes or str"
            )
        self.answer = Answer(offer.realm, self._nonce, self._given or self._count > 0)
        self._count += 1
        if offer.session:
            # A session has one client nonce: some servers remember the first, and others look at each request's.
            cnonce = self._session_cnonce = self._session_cnonce or cnonce
        count = f"{self._count:08x}"
        response = self._response(offer, method, uri, count, cnonce, body or b"")
        fields = [*self._user_fields(offer), f"realm={_quote(offer.realm)}", f"nonce={_quote(self._nonce)}"]
        fields += [f"uri={_quote(uri)}", f'response="{response}"']
        if offer.algorithm is not None:
            fields.append(f"algorithm={offer.algorithm}")
        if offer.opaque is not None:
            fields.append(f"opaque={_quote(offer.opaque)}")
        if offer.qop is not None:
            fields += [f"qop={offer.qop}", f"nc={count}"]
        if offer.qop is not None or offer.session:
            fields.append(f"cnonce={_quote(cnonce)}")
        return "Digest " + ", ".join(fields)

    def _response(self, offer: _Offer, method: str, uri: str, count: str, cnonce: str, body: bytes) -> str:
        """RFC 7616, 3.4.1 to 3.4.3; without qop RFC 2069, 2.1.2."""
        nonce = _octets(self._nonce)
        secret = _hash(offer.hash, self._username, _octets(offer.realm), self._password)
        if offer.session:
            secret = _hash(offer.hash, secret, nonce, cnonce.encode())
        message = [method.encode(), _octets(uri)]
        if offer.qop == "auth-int":
            message.append(_hash(offer.hash, body))
        protected = _hash(offer.hash, *message)
        if offer.qop is None:
            return _hash(offer.hash, secret, nonce, protected).decode()
        parts = (secret, nonce, count.encode(), cnonce.encode(), offer.qop.encode(), protected)
        return _hash(offer.hash, *parts).decode()

    def _user_fields(self, offer: _Offer) -> list[str]:
        """RFC 7616, 3.4 and 3.4.4."""
        if offer.user_hash:
            hashed = _hash(offer.hash, self._username, _octets(offer.realm)).decode()
            return [f'username="{hashed}"', "userhash=true"]
        name = self._username.decode()
        # Servers of before RFC 7616, which name no charset, know the plain form only.
        if _has_controls(name) or (offer.utf8 and not name.isascii()):
            from urllib.parse import quote

            return [f"username*=UTF-8''{quote(name, safe='')}"]
        return [f"username={_quote(self._username.decode('latin-1'))}"]

    def informed(self, value: str) -> None:
        """
        Take up what a server says in Authentication-Info or Proxy-Authentication-Info (RFC 7616, 3.5): the next nonce.

        Args:
            value: The value of the field; what is malformed in it is ignored.
        """
        nonce = parse_parameters(value).get("nextnonce")
        if self._offer is not None and nonce and _is_repeatable(nonce):
            self._use(nonce, True)

    def __repr__(self) -> str:
        return "<Digest>"


def _read_offer(challenge: Challenge) -> _Offer | None:
    """Return the offer that a challenge makes, None where it is for another scheme or cannot be answered."""
    if challenge.scheme != "digest":
        return None
    get = challenge.parameters.get
    realm, nonce, opaque = get("realm"), get("nonce"), get("opaque")
    if realm is None or not nonce or not all(map(_is_repeatable, (realm, nonce, opaque or ""))):
        return None
    algorithm = get("algorithm")
    name = (algorithm or "MD5").lower()
    hash_name = _HASHES.get(name.removesuffix(_SESSION))
    known, qop = _read_qop(get("qop", ""))
    if hash_name is None or not known or not _is_available(hash_name):
        return None
    return _Offer(
        hash_name,
        name.endswith(_SESSION),
        algorithm or None,
        realm,
        nonce,
        qop,
        opaque,
        get("userhash", "").lower() == "true",
        get("charset", "").lower() == "utf-8",
        get("stale", "").lower() == "true",
    )


def _read_qop(value: str) -> tuple[bool, str | None]:
    """Return whether one of the qualities of protection can be given, and which; None is that of RFC 2069."""
    offered = {option for part in value.split(",") if (option := part.strip().lower())}
    qop = next((option for option in ("auth", "auth-int") if option in offered), None)
    return qop is not None or not offered, qop


def _is_repeatable(value: str) -> bool:
    return len(value) <= MAX_VALUE_CHARACTERS and not _has_controls(value)


def _has_controls(text: str) -> bool:
    return re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text) is not None


def _is_available(hash_name: str) -> bool:
    """Not every build of OpenSSL has SHA-512/256."""
    import hashlib

    try:
        hashlib.new(hash_name, usedforsecurity=False)
    except ValueError:
        return False
    return True


def _hash(name: str, *parts: bytes) -> bytes:
    import hashlib

    return hashlib.new(name, b":".join(parts), usedforsecurity=False).hexdigest().encode()


def _octets(text: str) -> bytes:
    """Fields arrive as latin-1, whatever they mean: the bytes are those that the server sent."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:  # No field of the network's: it is text already.
        return text.encode(errors="replace")


def _quote(text: str) -> str:
    """Return a quoted string (RFC 9110, 5.6.4), as latin-1."""
    return '"' + _octets(text).decode("latin-1").replace("\\", "\\\\").replace('"', '\\"') + '"'
