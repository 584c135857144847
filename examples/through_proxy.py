"""
Fetch URLs through a proxy, some of them directly.

PROXY is such as http://user:password@host:3128, https://host or socks5h://host:1080; without it the environment tells
(http_proxy, https_proxy, all_proxy, no_proxy). A host named by --direct, or *.example.com for all below it, is
connected to without a proxy.

    python examples/through_proxy.py [--proxy PROXY] [--direct HOST]... [--ca FILE] URL [URL ...]
"""

import argparse
import sys

import aiosock


async def fetch(client: aiosock.Client, url: str) -> bool:
    """Fetch one URL, print what came and who it came from, and return whether it went well."""
    try:
        response = await client.get(url)
    except aiosock.ProxyError as error:
        # The proxy said no, or there was none to speak to.
        said = "is the trouble" if error.status_code is None else f"refused with {error.status_code}"
        print(f"{url}: the proxy {said}: {error}")
        return False
    except aiosock.AiosockError as error:
        print(f"{url}: {type(error).__name__}: {error}")
        return False
    assert response.connection is not None
    print(
        f"{url}: {response.status_code}, {len(response.content)} bytes by way of {response.connection.remote_address}"
    )
    return response.is_success


async def main() -> int:
    """Read the command line and fetch."""
    parser = argparse.ArgumentParser(description="Fetch URLs through a proxy.")
    parser.add_argument("--proxy", metavar="PROXY")
    parser.add_argument("--direct", metavar="HOST", action="append", default=[])
    parser.add_argument("--ca", metavar="FILE", help="authorities to trust instead of the system's")
    parser.add_argument("urls", metavar="URL", nargs="+")
    options = parser.parse_args()
    if options.direct and not options.proxy:
        parser.error("--direct needs --proxy; for proxies of the environment no_proxy says the same")
    # Patterns: the more of a URL one names, the more it counts.
    rules = {"all://": options.proxy, **{f"all://{host}": None for host in options.direct}}
    try:
        async with aiosock.Client(
            **({"proxy": rules} if options.proxy else {}), verify=options.ca or True, timeout=30
        ) as client:
            return 0 if all([await fetch(client, url) for url in options.urls]) else 1
    except aiosock.UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(aiosock.run(main()))
