"""The only file that opens what a user points at: local paths, http(s) URLs, ``data:`` URLs → bytes.

It knows no picture formats. A path is opened only when it is a regular file (and, for data rows, below `root` after
every link is followed). A URL is parsed once; the address that was looked up and checked is the one that is dialled,
so neither a second parser nor a second DNS answer can lead elsewhere. Proxies of the environment are not used, as
they would hide the address. One deadline covers a fetch over all its steps, however slowly bytes drip.
"""

import base64
import binascii
import http.client
import io
import os
import re
import socket
import ssl
import stat
import threading
import time
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from eyespot.errors import EyespotError
from eyespot.inputs.address import Address, is_public, parse_url
from eyespot.inputs.naming import link_out, shown, why_not_opened
from eyespot.runtime.limits import LIMITS, Limits

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+-]+)*)(;base64)?,", re.IGNORECASE)
OUTSIDE = "Set image_root to a folder that holds all pictures, those that links lead to as well."
PSEUDO_FILES = tuple(Path(p) for p in ("/proc", "/sys", "/dev"))
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 1 << 16


def fetch(
    source: str | Path,
    *,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
    kind: str = "image",
) -> bytes:
    """The bytes behind a path or URL.

    Args:
        source: a path, an http(s) URL or a base64 ``data:`` URL.
        root: None: any local file that the user named (API, command line). A folder: relative paths are read from
            it, and whatever lies outside it once links are followed is refused (data rows).
        allow_private: whether URLs may lead to private, loopback and link-local addresses.
        limits: sizes and times.
        name: the item for error messages; else the source itself, shortened.
        kind: which media type a ``data:`` URL may declare.

    Raises:
        EyespotError: ``media-missing``, ``media-refused``, ``media-too-large`` or ``media-fetch``.
    """
    name = name or shown(source)
    if isinstance(source, str):
        if source[:5].lower() == "data:":
            return _from_data_url(source, kind, limits, name)
        if scheme := SCHEME.match(source):
            if scheme[1].lower() in ("http", "https"):
                return _from_web(source, allow_private, limits, name)
            raise _refused(f"{scheme[1]}:// is not read", name)
    with _open_path(Path(source), root, name, limits.max_image_bytes, kind) as file:
        data = file.read(limits.max_image_bytes + 1)
    if len(data) > limits.max_image_bytes:  # it grew since it was opened
        raise _too_large("the file", limits.max_image_bytes, name, "max_image_bytes")
    return data


def fetch_file(
    source: str | Path,
    *,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
    kind: str = "video",
) -> BufferedIOBase:
    """As `fetch`, but a local file comes open and unread, as it may be larger than the memory; the caller closes it."""
    name = name or shown(source)
    if isinstance(source, str) and (source[:5].lower() == "data:" or SCHEME.match(source)):
        asked = {"allow_private": allow_private, "limits": limits, "name": name, "kind": kind}
        return io.BytesIO(fetch(source, **asked))
    return _open_path(Path(source), root, name, limits.max_film_bytes, kind)


def _refused(message: str, name: str, remedy: str = "") -> EyespotError:
    return EyespotError("media-refused", message, where=name, remedy=remedy)


# Local files


def _open_path(path: Path, root: Path | None, name: str, most: int, kind: str) -> BufferedIOBase:
    """A regular file of at most `most` bytes, open."""
    given = root / path if root is not None else path
    try:
        resolved = given.resolve()  # not strict: first where, then whether
        if root is not None:
            home = root.resolve()
            if not resolved.is_relative_to(home):
                link = link_out(given, root, lambda place: place.is_relative_to(home))
                raise _refused(f"{shown(path)} {link or 'lies'} outside image_root", name, OUTSIDE)
        if _is_pseudo(resolved):
            link = link_out(given, root, lambda place: not _is_pseudo(place))
            raise _refused(
                f"{shown(path)} {f'{link},' if link else 'is'} a file of the system, not a {_noun(kind)}", name
            )
        return _open_regular(resolved, path, name, most, kind)
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: a loop of links
        below = " below image_root" if root is not None else ""
        message = f"cannot open {shown(path)}{below}: {why_not_opened(error, given)}"
        raise EyespotError("media-missing", message, where=name) from None


def _is_pseudo(resolved: Path) -> bool:
    return any(resolved.is_relative_to(folder) for folder in PSEUDO_FILES)


def _noun(kind: str) -> str:
    return "picture" if kind == "image" else kind


def _open_regular(resolved: Path, path: Path, name: str, most: int, kind: str) -> BufferedIOBase:
    # O_NONBLOCK: opening a pipe must not wait for a writer. O_NOFOLLOW: the link may have been set after resolving.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(resolved, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise _refused(f"{shown(path)} is {what}", name, f"Give the path of a {_noun(kind)} file.")
        if status.st_size > most:
            raise _too_large("the file", most, name, "max_image_bytes" if kind == "image" else "max_film_bytes", kind)
        return os.fdopen(descriptor, "rb")
    except EyespotError:
        os.close(descriptor)
        raise


def _too_large(what: str, limit: int, name: str, field: str, kind: str = "image") -> EyespotError:
    remedy = f"Use a smaller {_noun(kind)}, or raise limits.{field} if you trust its source."
    return EyespotError("media-too-large", f"{what} is larger than {limit:,} bytes", where=name, remedy=remedy)


# data: URLs


def _from_data_url(url: str, kind: str, limits: Limits, name: str) -> bytes:
    """The content of a base64 ``data:`` URL; only the canonical spelling, so that no two URLs give the same bytes."""
    header = DATA_URL.match(url, 0, 256)
    if header is None or header[3] is None:
        raise _refused("a data: URL must read data:image/TYPE;base64,CONTENT", name)
    if header[1] and not header[1].lower().startswith(f"{kind}/"):
        raise _refused(f"expected a data: URL of type {kind}/…, got {shown(header[1], 40)}", name)
    if (len(url) - header.end()) // 4 * 3 > limits.max_image_bytes + 2:
        raise _too_large("the data: URL's content", limits.max_image_bytes, name, "max_image_bytes")
    text = url[header.end() :]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not text or base64.b64encode(data).decode() != text:
        raise _refused(
            "the data: URL's content is not base64 (A–Z a–z 0–9 + /, padded with =, without blanks)",
            name,
            "Encode the file with base64.b64encode(data).decode().",
        )
    return data


# http(s) URLs


def _from_web(url: str, allow_private: bool, limits: Limits, name: str) -> bytes:
    """The body behind `url`, over at most ``limits.max_redirects`` hops, each checked like the first."""
    deadline = time.monotonic() + limits.fetch_timeout_s
    try:
        for _ in range(limits.max_redirects + 1):
            address = parse_url(url, limits, name)
            ips = _look_up(address, allow_private, deadline, name)
            body, location = _request(address, ips, deadline, limits, name)
            if location is None:
                return body
            url = urljoin(address.url, location)
    except TimeoutError:
        message = f"no whole answer within {limits.fetch_timeout_s:g} s"
        raise EyespotError("media-fetch", message, where=name) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise EyespotError("media-fetch", f"the server cannot be read: {reason}", where=name) from None
    raise _refused(
        f"the server redirects more than {limits.max_redirects} times", name, "Give the final address of the picture."
    )


def _look_up(address: Address, allow_private: bool, deadline: float, name: str) -> list[str]:
    """The IP addresses that may be dialled. If a name has any that is not public, there are none."""
    answers: list[str] = []

    def resolve() -> None:  # getaddrinfo knows no timeout, so it runs aside
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            answers.extend(str(answer[4][0]) for answer in found)
        except (OSError, UnicodeError):
            pass

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_left(deadline))
    if thread.is_alive():
        raise TimeoutError
    if not answers:
        raise EyespotError("media-fetch", f"the host {shown(address.host)} is not known", where=name)
    if not allow_private and not all(is_public(ip) for ip in answers):
        raise _refused(
            f"{shown(address.host)} is not a public address",
            name,
            "Download the picture and give its path, or allow private addresses if you trust the source.",
        )
    return answers


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _dial(ips: list[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; names are not looked up again."""
    failure = OSError("no address")
    for ip in ips:
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(deadline))
            sock.connect((ip, port))
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure


def _request(address: Address, ips: list[str], deadline: float, limits: Limits, name: str) -> tuple[bytes, str | None]:
    """(body, None), or (nothing, where the server redirects to)."""
    connection = http.client.HTTPConnection(address.host, address.port)
    raw = _dial(ips, address.port, deadline)
    try:
        if address.tls:
            raw.settimeout(_left(deadline))
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=address.host)
        connection.sock = _TimedSocket(raw, deadline)  # type: ignore[assignment]
        headers = {"User-Agent": "eyespot", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("GET", address.target, headers=headers)
        response = connection.getresponse()
        if response.status in REDIRECTS and (location := response.getheader("Location")):
            return b"", location
        if response.status != 200:
            raise EyespotError("media-fetch", f"the server answered {response.status}", where=name)
        if (response.getheader("Content-Encoding") or "identity").lower() != "identity":
            raise EyespotError("media-fetch", "the server sent a compressed answer that was not asked for", where=name)
        return _body(response, limits, name), None
    finally:
        raw.close()


def _body(response: http.client.HTTPResponse, limits: Limits, name: str) -> bytes:
    """At most the limit plus one byte, whatever Content-Length says; a body shorter than it said is an error."""
    stated = response.length
    data = bytearray()
    while len(data) <= limits.max_url_bytes and (stated is None or stated <= limits.max_url_bytes):
        chunk = response.read1(min(CHUNK, limits.max_url_bytes + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    else:
        raise _too_large("the server's answer", limits.max_url_bytes, name, "max_url_bytes")
    if stated is not None and len(data) < stated:
        raise EyespotError("media-fetch", f"the answer ended after {len(data):,} of {stated:,} bytes", where=name)
    return bytes(data)


class _TimedSocket:
    """The little of a socket that http.client uses, each wait bounded by what is left of the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        """Nothing: http.client closes before it reads the body; `_request` closes in the end."""


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _TimedSocket) -> None:
        self.timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.timed.sock.settimeout(_left(self.timed.deadline))
        return self.timed.sock.recv_into(buffer)
