"""Which web addresses may be fetched: one strict parse of a URL, and which IP addresses are public.

Pure: nothing is looked up or opened here; `fetch` does, with the very object that `parse_url` gave. The surprising
choice: what two parsers could read in two ways (a backslash, ``user@host``, 0177.0.0.1) is refused instead of cleaned.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from eyespot.errors import EyespotError
from eyespot.runtime.limits import Limits

HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
NUMBER_LIKE = re.compile(r"0x[0-9a-f]*|[0-9]+")  # a host whose last label is like this is an address, not a name
BLOCKED = tuple(ipaddress.ip_network(n) for n in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "2002::/16"))
IPV6_PUBLIC = ipaddress.ip_network("2000::/3")  # mapped IPv4 (::ffff:0:0/96) and NAT64 (64:ff9b::/96) lie outside


@dataclass(frozen=True, slots=True)
class Address:
    """A URL after the one and only parse."""

    tls: bool
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        """The address written out, for resolving a relative redirect."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.target}"


def parse_url(url: str, limits: Limits, name: str) -> Address:
    """Strictly: what two parsers could read in two ways (backslash, blank, user@host, odd numbers) is refused."""
    if len(url) > limits.max_url_chars:
        raise _refuse(f"the address has {len(url):,} characters, the limit is {limits.max_url_chars:,}", name)
    authority = url.partition("://")[2]
    authority = re.split(r"[/?#]", authority, maxsplit=1)[0]
    if re.search(r"[\x00-\x20\x7f\\]", url) or "@" in authority or not authority.isascii():
        raise _refuse(
            "the address holds a blank, backslash, user name or non-ASCII host",
            name,
            "Give a plain http(s) URL; write an international host name in its xn-- form.",
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().removesuffix("."), parts.port
    except ValueError:
        raise _refuse("the address is not a valid URL", name) from None
    if parts.scheme not in ("http", "https") or port == 0 or not _is_host(host):
        raise _refuse("the address is not a valid http(s) URL", name)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    )
    tls = parts.scheme == "https"
    return Address(tls, host, port or (443 if tls else 80), target)


def _is_host(host: str) -> bool:
    """A host name, a dotted quad, or an IPv6 address; not 2130706433, 0x7f.1 or 0177.0.0.1."""
    if ":" in host or NUMBER_LIKE.fullmatch(host.rpartition(".")[2]):
        try:
            return "%" not in host and bool(ipaddress.ip_address(host))
        except ValueError:
            return False
    return len(host) <= 253 and HOST_NAME.fullmatch(host) is not None


def is_public(ip: str) -> bool:
    """Whether an address belongs to the public internet; what embeds another address (6to4, mapped) does not."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:  # an IPv6 address with a zone: link-local by nature
        return False
    if parsed.version == 6 and parsed not in IPV6_PUBLIC:
        return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in BLOCKED)


def _refuse(message: str, name: str, remedy: str = "") -> EyespotError:
    return EyespotError("media-refused", message, where=name, remedy=remedy)
