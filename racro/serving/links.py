"""Images behind links: only http and https, only public addresses, small and soon.

A server that fetches what strangers name must not be led into its own network. The name is resolved once, every address
must be public, and the connection goes to an address that was looked at, so that a name that changes in between leads
nowhere else. Redirects are looked at in the same way. Called by `racro.serving.pictures`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import NoReturn

import httpx

from racro.serving.errors import ApiError, invalid
from racro.serving.limits import Limits

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.ip_network("64:ff9b::/96")
HOSTS_OF_CLOUDS = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public addresses at which a cloud answers its own machines (Azure)."""
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "racro"}


def is_public(address: Address) -> bool:
    """May a stranger have this server connect to it? An IPv6 address counts as the IPv4 address inside it."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64 or int(address) >> 32 == 0:  # the second: ::a.b.c.d, and ::1
            inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.is_site_local or not all(is_public(within) for within in inside if within is not None):
            return False
        if address.ipv4_mapped is not None or address in NAT64:
            return True
    return address.is_global and not address.is_multicast and address not in HOSTS_OF_CLOUDS


async def fetch(link: str, number: int, limits: Limits) -> bytes:
    """The content behind a link. `number` names the image in errors. Raises ApiError 400, 413."""
    name = f"image {number}"
    try:
        async with (
            asyncio.timeout(limits.link),
            httpx.AsyncClient(trust_env=False, timeout=limits.link, follow_redirects=False) as client,
        ):
            url = httpx.URL(link)
            for _ in range(limits.redirects + 1):
                request = await _request(client, url, name, limits)
                answer = await client.send(request, stream=True)
                try:
                    if not answer.is_redirect:
                        return await _content(answer, name, limits)
                    url = url.join(answer.headers["location"])
                finally:
                    await answer.aclose()
            refuse(f"{name}: more than {limits.redirects} redirects")
    except (TimeoutError, httpx.TimeoutException) as error:
        raise _error(f"{name}: the link does not answer within {limits.link:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError, OSError) as error:
        raise _error(f"{name}: the link cannot be opened ({type(error).__name__})") from error


def refuse(message: str, status: int = 400) -> NoReturn:
    """Raises ApiError about a link."""
    raise _error(message, status)


def _error(message: str, status: int = 400) -> ApiError:
    return invalid(message, "messages", "invalid_image_url", status)


async def _request(client: httpx.AsyncClient, url: httpx.URL, name: str, limits: Limits) -> httpx.Request:
    """A request that goes to an address that is allowed, whatever its name means a moment later."""
    if url.scheme not in ("http", "https") or not url.host:
        refuse(f"{name}: a link is of the kind http, https or data")
    if url.userinfo:
        refuse(f"{name}: a link must not hold a password")
    host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        refuse(f"{name}: the host of the link is not known")
    addresses = [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    if not limits.private_links and not all(map(is_public, addresses)):
        refuse(
            f"{name}: the link leads to an address that is not public; send the image itself, by upload or data: URL"
        )
    return client.build_request(
        "GET",
        url.copy_with(host=str(addresses[0])),
        headers={**HEADERS, "Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": host},
    )


async def _content(answer: httpx.Response, name: str, limits: Limits) -> bytes:
    if answer.status_code != 200:
        refuse(f"{name}: the link answers {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        refuse(f"{name}: the link answers with a compressed file; give a link to an image")
    content = bytearray()
    async for part in answer.aiter_raw():
        content += part
        if len(content) > limits.image:
            refuse(f"{name}: more than {limits.image:,} bytes behind the link", 413)
    return bytes(content)
