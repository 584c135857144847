"""
A small polite crawler: one host, one client, one JSON line a page.

It keeps to robots.txt, stays on the host where it began, goes no deeper and fetches no more than it was
told, asks for no page twice, and pauses between two requests. What fails is a line too, with an "error" in
place of a "status".

    python examples/crawl.py [--depth N] [--pages N] [--pause SECONDS] URL
"""

import argparse
import asyncio
import json
import math
from collections import deque

from protego import Protego
from selectolax.lexbor import LexborHTMLParser
from yarl import URL

import aiosock

USER_AGENT = "aiosock-example-crawler"
MAX_PAGE_BYTES = 5 * 1024 * 1024
MAX_CRAWL_DELAY_SECONDS = 60.0  # what robots.txt may ask for; more would be a way to hold us for ever


def parse_link(base: URL, href: str | None) -> URL | None:
    """Return the page that href names, without its fragment, or None where it is not one to crawl."""
    try:
        link = base.join(URL(href or "")).with_fragment(None)
    except ValueError:
        return None
    return link if link.scheme in ("http", "https") and link.host == base.host else None


async def read_robots(client: aiosock.Client, origin: URL) -> Protego:
    """Return the rules of a site: nothing is allowed where they cannot be had (RFC 9309, 2.3.1)."""
    try:
        response = await client.get(origin.join(URL("/robots.txt")), follow_redirects=True)
    except aiosock.AiosockError:
        return Protego.parse("User-agent: *\nDisallow: /")
    if response.is_server_error:
        return Protego.parse("User-agent: *\nDisallow: /")
    return Protego.parse(response.text if response.is_success else "")


async def read_page(client: aiosock.Client, url: URL) -> tuple[dict[str, object], list[URL]]:
    """Return what is to be told about a page, and the links in it."""
    async with client.stream("GET", url) as response:
        found: dict[str, object] = {"status": response.status_code}
        if response.is_redirect:
            # A redirect is followed as a link is: after robots.txt, the host and the limits have been asked.
            found["location"] = location = response.headers["Location"]
            link = parse_link(url, location)
            return found, [link] if link else []
        content_type = response.headers.get("Content-Type", "")
        found["type"] = content_type
        if not content_type.startswith(("text/html", "application/xhtml+xml")):
            return found, []
        tree = LexborHTMLParser((await response.read()).decode(response.encoding or "utf-8", errors="replace"))
        title = tree.css_first("title")
        found["title"] = title.text(strip=True) if title else ""
        links = [parse_link(url, anchor.attributes["href"]) for anchor in tree.css("a[href]:not([rel~=nofollow])")]
        found["links"] = len(links)
        return found, [link for link in links if link]


async def crawl(start: URL, depth_limit: int, page_limit: int, pause_seconds: float) -> None:
    """Crawl breadth first from start and print a line for every page."""
    limits = aiosock.Limits(max_content_bytes=MAX_PAGE_BYTES)
    client = aiosock.Client(headers={"User-Agent": USER_AGENT}, limits=limits, follow_redirects=False)
    robots: dict[URL, Protego] = {}  # http and https, and each port, have rules of their own
    seen = {start}
    queue = deque([(start, 0)])
    pages = 0
    async with client:
        while queue and pages < page_limit:
            url, depth = queue.popleft()
            if url.origin() not in robots:
                robots[url.origin()] = await read_robots(client, url.origin())
            rules = robots[url.origin()]
            line: dict[str, object] = {"url": str(url), "depth": depth}
            if not rules.can_fetch(str(url), USER_AGENT):
                print(json.dumps(line | {"error": "robots.txt does not allow it"}), flush=True)
                continue
            delay = min(rules.crawl_delay(USER_AGENT) or 0, MAX_CRAWL_DELAY_SECONDS)
            await asyncio.sleep(max(pause_seconds, delay))
            pages += 1
            try:
                found, links = await read_page(client, url)
            except aiosock.AiosockError as error:
                found, links = {"error": f"{type(error).__name__}: {error}"}, []
            print(json.dumps(line | found), flush=True)
            for link in links if depth < depth_limit else ():
                if link not in seen:
                    seen.add(link)
                    queue.append((link, depth + 1))


def main() -> None:
    """Read the command line and crawl."""
    parser = argparse.ArgumentParser(description="Crawl one host politely; one JSON line a page.")
    parser.add_argument("url", type=URL, metavar="URL")
    parser.add_argument("--depth", type=int, default=2, help="the most links from the first page (2)")
    parser.add_argument("--pages", type=int, default=50, help="the most pages (50)")
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="between two requests (1)")
    arguments = parser.parse_args()
    if arguments.url.scheme not in ("http", "https") or not arguments.url.host:
        parser.error("a URL begins with http:// or https://")
    if not 0 <= arguments.pause < math.inf:
        parser.error("a pause is a number of seconds, 0 or more")
    aiosock.run(crawl(arguments.url.with_fragment(None), arguments.depth, arguments.pages, arguments.pause))


if __name__ == "__main__":
    main()
