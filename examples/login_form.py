"""
Log in by a web form and stay logged in: cookies across redirects, and across runs.

The page at URL has a form with a password field. It is filled in and sent; the redirects that follow set cookies, and
the client sends them back. With --cookies they are kept in a file (curl reads it too), so that the next run finds
itself logged in: then URL leads to a page that has no such form any more.

    PASSWORD=... python examples/login_form.py [--cookies FILE] URL USER
"""

import argparse
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import aiosock


class LoginForm(HTMLParser):
    """Finds the first form with a password field: its action, and its fields by their types."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, tuple[str, str]] = {}
        self.found = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self.found:
            return
        if tag == "form":
            self.action, self.fields = given.get("action", ""), {}
        elif tag == "input" and self.action is not None and "name" in given:
            kind = given.get("type", "text")
            # A box that is not ticked is not sent.
            if kind not in ("checkbox", "radio") or "checked" in given:
                self.fields[given["name"]] = (kind, given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        self.found |= tag == "form" and any(kind == "password" for kind, _ in self.fields.values())

    def filled(self, user: str, password: str) -> dict[str, str]:
        """Return what the form sends: the first text is the user; hidden fields, a token say, go back as they came."""
        sent = {name: password if kind == "password" else value for name, (kind, value) in self.fields.items()}
        texts = [name for name, (kind, _) in self.fields.items() if kind in ("text", "email")]
        return sent | dict.fromkeys(texts[:1], user)


async def log_in(client: aiosock.Client, url: str, user: str, password: str) -> aiosock.Response:
    """Return the page behind the login form at url."""
    response = (await client.get(url)).raise_for_status()
    form = LoginForm(response.text)
    if not form.found:
        return response
    assert form.action is not None
    target = response.url.join(type(response.url)(form.action))
    response = await client.post(target, data=form.filled(user, password))
    if LoginForm(response.raise_for_status().text).found:
        sys.exit(f"{user} was not let in")
    return response


async def main() -> None:
    """Read the command line, log in, and tell where that led."""
    parser = argparse.ArgumentParser(description="Log in by a web form.")
    parser.add_argument("--cookies", type=Path, metavar="FILE", help="load cookies from FILE, and save them there")
    parser.add_argument("url")
    parser.add_argument("user")
    options = parser.parse_args()
    try:
        async with aiosock.Client() as client:
            jar = client.cookies.jar
            if options.cookies and options.cookies.exists():
                await jar.load(options.cookies)
            response = await log_in(client, options.url, options.user, os.environ.get("PASSWORD", ""))
            if options.cookies:
                await jar.save(options.cookies, format="netscape", session=True)
    except (aiosock.AiosockError, OSError) as error:
        sys.exit(f"the login failed: {error}")
    print("at:", response.url, "after", len(response.history), "redirects")
    print("cookies:", ", ".join(sorted(client.cookies)))
    print(response.text)


if __name__ == "__main__":
    aiosock.run(main())
