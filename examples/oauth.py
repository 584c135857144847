"""
APIs that want an OAuth 2.0 token (RFC 6749): an auth flow that gets one, shares it, and renews it.

The flow is an asynchronous generator: it yields requests, the one for the token included, and is given their
answers. However many requests run at once, one of them asks for the token while the others wait for it; so it is
when the token has had its time, and when an API refuses it (401), after which the request is sent once more.

The client's secret is read from the environment variable CLIENT_SECRET.

    python examples/oauth.py [--scope SCOPE] TOKEN_URL CLIENT_ID API_URL [API_URL ...]
"""

import argparse
import asyncio
import math
import os
import sys
import time
from collections.abc import AsyncGenerator
from urllib.parse import quote_plus

import aiosock

# A token that is good for a moment only would be refused on its way.
EARLY_SECONDS = 10.0


class TokenError(Exception):
    """There is no token, for the reason that the message tells."""


class Token:
    """An access token and when to renew it, in seconds of the monotonic clock."""

    def __init__(self, value: str, lifetime_seconds: float) -> None:
        self.value = value
        self.renew_at = time.monotonic() + lifetime_seconds - EARLY_SECONDS


class ClientCredentials:
    """An auth flow with the client's own credentials (RFC 6749, 4.4), and refresh tokens where the server has them."""

    def __init__(self, token_url: str, client_id: str, client_secret: str, scope: str = "") -> None:
        self._token_url = token_url
        # RFC 6749, 2.3.1: both are encoded as in a form before they become Basic's user and password.
        self._client_auth = aiosock.BasicAuth(quote_plus(client_id), quote_plus(client_secret))
        self._scope = scope
        self._token: Token | None = None
        self._refresh_token: str | None = None
        self._asking = asyncio.Lock()
        self.tokens = 0

    async def __call__(self, request: aiosock.Request) -> AsyncGenerator[aiosock.Request, aiosock.Response]:
        """Send a request with a good token; when that is refused, once more with a new one."""
        refused: Token | None = None
        for _ in range(2):
            # Whoever comes first asks, and the others find what it got.
            async with self._asking:
                token = self._token
                if token is None or token is refused or time.monotonic() >= token.renew_at:
                    token = self._token = None
                while token is None:
                    try:
                        response = yield self._token_request()
                        token = self._token = self._read_token(response.status_code, await response.read())
                    except aiosock.AiosockError as error:
                        raise TokenError(f"the token server cannot be asked: {error}") from error
            response = yield aiosock.BearerAuth(token.value)(request)
            if response.status_code != 401:
                return
            refused = token

    def _token_request(self) -> aiosock.Request:
        if self._refresh_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        else:
            form = {"grant_type": "client_credentials"}
        if self._scope:
            form["scope"] = self._scope
        request = aiosock.Request("POST", self._token_url, data=form, headers={"Accept": "application/json"})
        return self._client_auth(request)

    def _read_token(self, status: int, content: bytes) -> Token | None:
        """Return the token of an answer (RFC 6749, 5), None where it only tells that the refresh token is no good."""
        answer = read_object(content)
        if status != 200 and self._refresh_token is not None:
            self._refresh_token = None
            return None
        if status != 200:
            raise TokenError(f"the token server refuses: {status} {printable(answer.get('error'))}".rstrip())
        value, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(value, str) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise TokenError("the token server's answer has no bearer token")
        refresh_token = answer.get("refresh_token", self._refresh_token)
        self._refresh_token = refresh_token if isinstance(refresh_token, str) else None
        self.tokens += 1
        return Token(value, read_seconds(answer.get("expires_in")))


def read_object(content: bytes) -> dict[str, object]:
    """Return the JSON object that content is, an empty one where it is none."""
    import json

    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def read_seconds(value: object) -> float:
    """Return a number of seconds; without one a token is good until it is refused."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.inf
    except (ValueError, OverflowError):
        return math.inf


def printable(value: object) -> str:
    """Return what a server says so that it cannot steer a terminal."""
    return "".join(char for char in value if char.isprintable())[:100] if isinstance(value, str) else ""


async def fetch(client: aiosock.Client, url: str) -> bool:
    """Fetch one URL, print a line on it, and return whether it went well."""
    try:
        response = await client.get(url)
    except aiosock.AiosockError as error:
        print(f"{url} failed: {error}", file=sys.stderr)
        return False
    print(f"{response.status_code} {len(response.content):>10}  {url}")
    return response.is_success


async def fetch_all(auth: ClientCredentials, urls: list[str]) -> bool:
    """Fetch all URLs at once; return whether each of them went well."""
    tasks: list[asyncio.Task[bool]] = []
    failures: list[Exception] = []
    try:
        async with aiosock.Client(auth=auth) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(client, url)) for url in urls]
    except* TokenError as group:
        # Without a token none of them can go on.
        failures.extend(group.exceptions)
    if failures:
        sys.exit(f"no token: {failures[0]}")
    print(f"tokens asked for: {auth.tokens}")
    return all(task.result() for task in tasks)


def main() -> None:
    """Read the command line; exit with 1 where a URL failed."""
    parser = argparse.ArgumentParser(description="Fetch URLs of APIs that want an OAuth 2.0 token.")
    parser.add_argument("token_url", metavar="TOKEN_URL")
    parser.add_argument("client_id", metavar="CLIENT_ID")
    parser.add_argument("urls", nargs="+", metavar="API_URL")
    parser.add_argument("--scope", default="", help="what the token is to be good for")
    arguments = parser.parse_args()
    secret = os.environ.get("CLIENT_SECRET")
    if not secret:
        sys.exit("the environment variable CLIENT_SECRET must hold the client's secret")
    auth = ClientCredentials(arguments.token_url, arguments.client_id, secret, arguments.scope)
    sys.exit(0 if aiosock.run(fetch_all(auth, arguments.urls)) else 1)


if __name__ == "__main__":
    main()
