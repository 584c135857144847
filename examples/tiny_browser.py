"""
A web browser in a terminal: text and numbered links.

Type a link's number to follow it, b to go back, q to quit. One client serves the whole session, so
the pages of a site share a connection.

    python examples/tiny_browser.py URL
"""

import asyncio
import re
import sys
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser
from yarl import URL

import aiosock

BLOCKS = {"article", "br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "p", "pre", "section", "table", "tr"}


@dataclass(frozen=True)
class Page:
    """What is shown of a page: its text, and where its numbered links lead."""

    text: str
    links: list[URL]


def parse_page(url: URL, html: str) -> Page:
    """Return the page that html is; a link's number, counted from 1, stands before its text."""
    tree = LexborHTMLParser(html)
    tree.strip_tags(["script", "style", "template", "noscript"])
    links: list[URL] = []
    parts: list[str] = []
    for node in tree.body.traverse(include_text=True) if tree.body else ():
        if node.tag == "-text":
            parts.append(re.sub(r"\s+", " ", node.text_content or ""))
        elif node.tag in BLOCKS:
            parts.append("\n")
        elif node.tag == "a" and (link := parse_link(url, node.attributes.get("href"))):
            links.append(link)
            parts.append(f"[{len(links)}]")
    # A page could steer the terminal with control characters, so only what can be printed passes.
    lines = ("".join(filter(str.isprintable, line)).strip() for line in "".join(parts).split("\n"))
    return Page("\n".join(line for line in lines if line), links)


def parse_link(base: URL, href: str | None) -> URL | None:
    """Return where href leads, or None where a browser of web pages cannot go."""
    try:
        link = base.join(URL(href or ""))
    except ValueError:
        return None
    return link if link.scheme in ("http", "https") else None


async def show(client: aiosock.Client, url: URL) -> list[URL]:
    """Fetch and print a page, or one line on why not; return its links."""
    try:
        response = await client.get(url)
    except aiosock.AiosockError as error:
        print(f"{url}: {error}")
        return []
    page = parse_page(response.url, response.text)
    print(f"\n{response.url}  ({response.status_code}, {len(page.links)} links)\n\n{page.text}\n")
    return page.links


async def browse(start: URL) -> None:
    """Show pages as the lines on standard input say, until q or the end of the input."""
    async with aiosock.Client() as client:
        history = [start]
        links = await show(client, start)
        while True:
            print("number, b or q? ", end="", flush=True)
            # In a thread: reading blocks, and the loop has idle connections to look after meanwhile.
            line = await asyncio.to_thread(sys.stdin.readline)
            command = line.strip()
            if not line or command == "q":
                return
            if command == "b" and len(history) > 1:
                history.pop()
            elif command.isdecimal() and 1 <= int(command) <= len(links):
                history.append(links[int(command) - 1])
            else:
                print(f"a number from 1 to {len(links)}, b to go back, q to quit")
                continue
            links = await show(client, history[-1])


def main() -> None:
    """Read the command line and browse."""
    start = parse_link(URL(), sys.argv[1]) if len(sys.argv) == 2 else None
    if start is None:
        sys.exit("usage: tiny_browser.py URL, where the URL begins with http:// or https://")
    aiosock.run(browse(start))


if __name__ == "__main__":
    main()
