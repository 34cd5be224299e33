"""The one place that opens what a user points at: files, data: URLs, and the web behind a loopback server."""

import base64
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.errors import EyespotError
from eyespot.inputs.address import is_public, parse_url
from eyespot.inputs.fetch import fetch
from eyespot.inputs.naming import shown
from eyespot.runtime.limits import LIMITS

BYTES = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5


def refusal(source, **options) -> EyespotError:
    with pytest.raises(EyespotError) as caught:
        fetch(source, **options)
    return caught.value


# Local files


@pytest.fixture
def tree(tmp_path):
    """root/{a.png,sub/b.png,…} with links in and out, beside secret.png."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(BYTES)
    (root / "sub" / "b.png").write_bytes(BYTES)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "outside.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "gone.png").symlink_to("deleted.png")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize("path", ["a.png", "sub/b.png", "sub/../a.png", "./a.png", "inside.png"])
def test_paths_below_the_root_are_read(tree, path: str) -> None:
    assert fetch(path, root=tree) == BYTES
    assert fetch(tree / path, root=tree) == BYTES


@pytest.mark.parametrize(
    "path", ["../secret.png", "outside.png", "up/secret.png", "sub/../../secret.png", "/etc/hostname"]
)
def test_paths_that_lead_out_of_the_root_are_refused_naming_image_root(tree, path: str) -> None:
    error = refusal(path, root=tree, name="row 4, image 1")
    assert (error.code, error.where) == ("media-refused", "row 4, image 1")
    assert "image_root" in error.message


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("outside.png", "outside.png is a link to {file} outside image_root"),
        ("up/secret.png", "up/secret.png lies behind up, a link to {folder} outside image_root"),
        ("../secret.png", "../secret.png lies outside image_root"),
        ("zero.png", "zero.png is a link to /dev/zero outside image_root"),
    ],
)
def test_a_link_out_of_the_root_is_named_with_where_it_leads(tree, path: str, said: str) -> None:
    file = shown(tree.parent / "secret.png")
    assert refusal(path, root=tree).message == said.format(file=file, folder=shown(tree.parent))


def test_a_link_to_a_file_of_the_system_is_named_as_one(tree) -> None:
    message = refusal(tree / "zero.png").message
    assert message.endswith("zero.png is a link to /dev/zero, a file of the system, not a picture")


def test_links_that_lead_nowhere_are_named_as_links(tree) -> None:
    message = refusal("gone.png", root=tree).message
    assert message == "cannot open gone.png below image_root: a link to deleted.png: No such file or directory"
    assert "a link that leads in a circle" in refusal("loop.png", root=tree).message


def test_the_command_line_may_name_any_file(tree) -> None:
    assert fetch(tree / ".." / "secret.png") == b"secret"
    assert fetch(str(tree / "outside.png")) == b"secret"


@pytest.mark.parametrize("path", ["none.png", "a.png/b.png", "loop.png", "nul\0.png", "x" * 5000, "", "~/a.png"])
def test_paths_that_cannot_be_opened_are_missing_or_refused(tree, path: str) -> None:
    error = refusal(path, root=tree)
    assert error.code == ("media-refused" if path == "" else "media-missing")
    assert len(error.message) < 200
    assert str(tree) not in str(error)


@pytest.mark.parametrize("path", ["pipe.png", "sub", "/dev/null", "/dev/zero", "/proc/self/environ"])
def test_only_regular_files_are_read_and_nothing_hangs(tree, path: str) -> None:
    started = time.perf_counter()
    error = refusal(tree / path)
    assert error.code == "media-refused"
    assert time.perf_counter() - started < 2


def test_a_file_over_the_limit_is_refused_unread(tree) -> None:
    with (tree / "big.png").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    error = refusal("big.png", root=tree)
    assert error.code == "media-too-large"
    assert "max_image_bytes" in error.remedy
    assert fetch("a.png", root=tree, limits=LIMITS.replace(max_image_bytes=len(BYTES))) == BYTES


@pytest.mark.parametrize("url", ["file:///etc/hostname", "FILE:///etc/hostname", "ftp://h/a.png", "s3://bucket/a.png"])
def test_other_schemes_are_refused(url: str) -> None:
    assert refusal(url).code == "media-refused"


def test_a_name_with_a_colon_is_a_path(tree) -> None:
    (tree / "shot:1.png").write_bytes(BYTES)
    assert fetch("shot:1.png", root=tree) == BYTES


# data: URLs


def data_url(data: bytes = BYTES, header: str = "data:image/png;base64,") -> str:
    return header + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "header",
    [
        "data:image/png;base64,",
        "data:image/jpeg;base64,",
        "DATA:IMAGE/PNG;BASE64,",
        "data:;base64,",
        "data:image/png;name=a.png;base64,",
    ],
)
def test_base64_data_urls_are_read(header: str) -> None:
    assert fetch(data_url(header=header)) == BYTES


GOOD = base64.b64encode(b"abcd").decode()  # YWJjZA==


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,",
        "data:image/png," + GOOD,
        "data:,hello",
        "data:text/html;base64," + GOOD,
        "data:video/jpeg;base64," + GOOD,
        "data:image/png;base64" + GOOD,
        "data:image/png;base64," + GOOD.rstrip("="),
        "data:image/png;base64," + GOOD + "=",
        "data:image/png;base64," + GOOD + "\n",
        "data:image/png;base64, " + GOOD,
        "data:image/png;base64," + GOOD[:3] + " " + GOOD[3:],
        "data:image/png;base64,YWJjZB==",  # trailing bits that are not zero
        "data:image/png;base64,YWJ-ZA==",
        "data:image/png;base64,YWJ_ZA==",
        "data:image/png;base64,YWJjZA%3D%3D",
        "data:image/png;base64,é" + GOOD,
        "data:image/png;base64," + GOOD + GOOD,
        "data:" + "a" * 500 + "/png;base64," + GOOD,
    ],
)
def test_only_the_canonical_base64_spelling_is_read(url: str) -> None:
    error = refusal(url)
    assert error.code == "media-refused"
    assert len(str(error)) < 400


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="AQgw+/=-_ \n", min_size=1, max_size=12))
def test_two_accepted_spellings_never_give_the_same_bytes(text: str) -> None:
    try:
        data = fetch("data:image/png;base64," + text)
    except EyespotError:
        return
    assert base64.b64encode(data).decode() == text


def test_a_data_url_over_the_limit_is_refused_before_decoding(monkeypatch) -> None:
    def called(*_args, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr(base64, "b64decode", called)
    assert refusal(data_url(), limits=LIMITS.replace(max_image_bytes=100)).code == "media-too-large"


def test_errors_show_a_data_url_without_its_content() -> None:
    assert shown(data_url()) == f"data:image/png;base64,… ({len(data_url()):,} characters)"
    assert len(shown("x" * 1000)) == 64


# Which addresses are public


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.254",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "ff02::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2001:db8::1",
        "2001:0:1::1",
        "100::1",
        "5f00::1",
    ],
)
def test_private_and_embedding_addresses_are_not_public(ip: str) -> None:
    assert not is_public(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]
)
def test_ordinary_addresses_are_public(ip: str) -> None:
    assert is_public(ip)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png", "http://localhost/a.png", "http://LOCALHOST./a.png", "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png", "http://[::ffff:7f00:1]/", "http://10.0.0.1/", "http://169.254.169.254/latest",
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
        "http://127.0.0.1.:80/", "http://[::]/", "http://0.0.0.0:8000/", "https://192.168.0.1/", "http://100.64.0.1/",
        "http://[fe80::1%25lo]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
        "http://example.com@127.0.0.1/", "http://127.0.0.1\\@example.com/", "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1#@example.com/", "http://127.0.0.1?@example.com/", "http://exa mple.com/", "http://exa\tmple.com/",
        "http://\n127.0.0.1/", "http:///127.0.0.1/", "http://", "http://:80/", "http://127.0.0.1:99999/", "http://a:b:c/",
        "http://１２７.0.0.1/", "http://127。0。0。1/", "http://ⓛocalhost/", "http://[127.0.0.1]/", "http://[::1", "http://-a.b/",
        "http://a..b/", "http://" + "a" * 64 + ".com/", "http://example.com:0/", "http://x/" + "a" * 9000,
    ],
)  # fmt: skip
def test_private_and_ambiguous_urls_are_refused_and_never_dialled(url: str, monkeypatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was made"))
    error = refusal(url, limits=LIMITS.replace(fetch_timeout_s=5.0))
    assert error.code == "media-refused"


@pytest.mark.parametrize(
    "url", ["http://user@example.com/", "http://user:pass@example.com/", "http://a.example@b.example/"]
)
def test_a_user_name_in_the_address_is_refused(url: str) -> None:
    with pytest.raises(EyespotError, match="user name"):
        parse_url(url, LIMITS, "")


def test_an_international_host_is_asked_for_in_its_ascii_form() -> None:
    with pytest.raises(EyespotError, match="xn--"):
        parse_url("http://그림.example/a.png", LIMITS, "")
    assert parse_url("http://xn--9i1b3z.example/a.png", LIMITS, "").host == "xn--9i1b3z.example"


def test_the_target_is_percent_encoded_and_the_fragment_dropped() -> None:
    address = parse_url("https://Example.COM:8443/그림/a b.png?q=ü&r=%20#part".replace(" ", "%20"), LIMITS, "")
    assert (address.host, address.port, address.tls) == ("example.com", 8443, True)
    assert address.target == "/%EA%B7%B8%EB%A6%BC/a%20b.png?q=%C3%BC&r=%20"


# The web, on loopback


Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


class Web:
    """A loopback server whose paths are behaviours, and the count of its hits."""

    def __init__(self) -> None:
        self.paths: dict[str, Behaviour] = {}
        self.hits: list[str] = []
        self.headers: list[dict[str, str]] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.hits.append(self.path)
                web.headers.append(dict(self.headers))
                try:
                    web.paths[self.path](self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_args) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, body: bytes = BYTES, status: int = 200, **headers: str) -> str:
        def behaviour(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for key, value in {"Content_Length": str(len(body)), **headers}.items():
                handler.send_header(key.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.paths[path] = behaviour
        return self.url(path)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield web
    web.server.shutdown()
    web.server.server_close()


def resolve_as(monkeypatch, *answers: list[str]) -> list[str]:
    """`getaddrinfo` gives each list in turn, then the last for ever; returns the record of asked hosts."""
    asked: list[str] = []

    def fake(host, port, *_args, **_options):
        ips = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


def test_an_allowed_private_server_is_read(web) -> None:
    assert fetch(web.serve("/a.png"), allow_private=True) == BYTES
    assert web.headers[0]["Host"] == f"127.0.0.1:{web.port}"
    assert web.headers[0]["Accept-Encoding"] == "identity"


def test_without_permission_the_server_is_never_reached(web) -> None:
    assert refusal(web.serve("/a.png"), name="row 9").where == "row 9"
    assert web.hits == []


def test_a_name_with_one_private_address_among_public_ones_is_refused(web, monkeypatch) -> None:
    resolve_as(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    web.serve("/a.png")
    assert refusal(web.url("/a.png", "pictures.example")).code == "media-refused"
    assert web.hits == []


def test_the_checked_address_is_the_one_dialled(web, monkeypatch) -> None:
    web.serve("/a.png")
    asked = resolve_as(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])  # a second look-up would lead elsewhere
    dialled = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda sock, at: (dialled.append(at[0]), connect(sock, ("127.0.0.1", at[1])))
    )
    assert fetch(web.url("/a.png", "pictures.example"), allow_private=True) == BYTES
    assert (asked, dialled) == (["pictures.example"], ["127.0.0.2"])
    assert web.headers[0]["Host"] == f"pictures.example:{web.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(web, monkeypatch) -> None:
    web.serve("/a.png")
    resolve_as(monkeypatch, ["127.0.0.9", "127.0.0.1"])  # the server listens on the second only
    assert fetch(web.url("/a.png", "pictures.example"), allow_private=True) == BYTES


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_by_default(web, status: int) -> None:
    web.serve("/b.png")
    error = refusal(web.serve("/a.png", b"", status, Location="/b.png"), allow_private=True)
    assert error.code == "media-refused"
    assert web.hits == ["/a.png"]


def test_permitted_redirects_are_followed_and_counted(web) -> None:
    web.serve("/c.png")
    web.serve("/b.png", b"", 302, Location="c.png")
    first = web.serve("/a.png", b"", 302, Location=web.url("/b.png"))
    assert fetch(first, allow_private=True, limits=LIMITS.replace(max_redirects=2)) == BYTES
    assert refusal(first, allow_private=True, limits=LIMITS.replace(max_redirects=1)).code == "media-refused"


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:{port}/b.png", "file:///etc/hostname", "//127.0.0.1:{port}/b.png"]
)
def test_each_hop_is_checked_like_the_first(web, monkeypatch, location: str) -> None:
    web.serve("/b.png")
    web.serve("/a.png", b"", 302, Location=location.format(port=web.port))
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real("8.8.8.8" if host == "public.example" else host, *a, **k)
    )
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda sock, at: connect(sock, ("127.0.0.1" if at[0] == "8.8.8.8" else at[0], at[1]))
    )
    error = refusal(web.url("/a.png", "public.example"), limits=LIMITS.replace(max_redirects=5))
    assert error.code == "media-refused"
    assert web.hits == ["/a.png"]


@pytest.mark.parametrize("status", [204, 206, 400, 403, 404, 429, 500, 503])
def test_any_status_but_200_is_an_error_that_names_it(web, status: int) -> None:
    body = b"" if status == 204 else b"x"
    error = refusal(web.serve("/a.png", body, status), allow_private=True)
    assert error.code == "media-fetch"
    assert str(status) in error.message


def test_a_stated_length_over_the_limit_is_refused_before_reading(web) -> None:
    def behaviour(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        time.sleep(5)

    web.paths["/a.png"] = behaviour
    started = time.perf_counter()
    assert refusal(web.url("/a.png"), allow_private=True).code == "media-too-large"
    assert time.perf_counter() - started < 2.5


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_body_ends_at_the_byte_limit(web, chunked: bool) -> None:
    sent = [0]

    def behaviour(handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        handler.end_headers()
        while True:
            handler.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n" if chunked else b"x" * 4096)
            sent[0] += 4096

    web.paths["/a.png"] = behaviour
    error = refusal(web.url("/a.png"), allow_private=True, limits=LIMITS.replace(max_url_bytes=10_000))
    assert error.code == "media-too-large"
    assert sent[0] < 20_000_000  # what the sockets' buffers took, not an endless stream


def test_a_body_of_exactly_the_limit_is_read(web) -> None:
    url = web.serve("/a.png")
    assert fetch(url, allow_private=True, limits=LIMITS.replace(max_url_bytes=len(BYTES))) == BYTES
    too_small = LIMITS.replace(max_url_bytes=len(BYTES) - 1)
    assert refusal(url, allow_private=True, limits=too_small).code == "media-too-large"


def test_a_body_shorter_than_stated_is_an_error(web) -> None:
    error = refusal(web.serve("/a.png", Content_Length="5000"), allow_private=True)
    assert error.code == "media-fetch"
    assert "5,000" in error.message


def test_a_compressed_answer_is_not_expanded(web) -> None:
    assert refusal(web.serve("/a.png", Content_Encoding="gzip"), allow_private=True).code == "media-fetch"


@pytest.mark.parametrize("where", ["status", "headers", "body"])
def test_dripping_bytes_do_not_outlast_the_deadline(where: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    head = {"status": b"", "headers": b"HTTP/1.1 200 OK\r\n", "body": b"HTTP/1.1 200 OK\r\n\r\n"}[where]

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(head)
                while True:
                    connection.sendall(b"a")
                    time.sleep(0.03)
            except OSError:
                pass

    threading.Thread(target=drip, daemon=True).start()
    started = time.perf_counter()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
    error = refusal(url, allow_private=True, limits=LIMITS.replace(fetch_timeout_s=0.3))
    listener.close()
    assert error.code == "media-fetch"
    assert "0.3 s" in error.message
    assert 0.25 < time.perf_counter() - started < 3


def test_a_look_up_that_hangs_ends_at_the_deadline(monkeypatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: time.sleep(4) or [])
    started = time.perf_counter()
    assert refusal("http://slow.example/a.png", limits=LIMITS.replace(fetch_timeout_s=0.2)).code == "media-fetch"
    assert time.perf_counter() - started < 2.5


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000, b"\x16\x03\x01"]
)
def test_a_server_that_speaks_no_http_is_an_error(answer: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    threading.Thread(target=speak, daemon=True).start()
    error = refusal(f"http://127.0.0.1:{listener.getsockname()[1]}/", allow_private=True)
    listener.close()
    assert error.code == "media-fetch"


def test_a_closed_port_and_an_unknown_host_are_named(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}/", allow_private=True).code == "media-fetch"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: (_ for _ in ()).throw(socket.gaierror(-2, "unknown")))
    assert "no-such.example" in refusal("http://no-such.example/").message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_trusts_only_a_certificate_of_the_named_host(web, tmp_path, monkeypatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pictures.example"
    )
    names = ["-addext", "subjectAltName=DNS:pictures.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    web.server.socket = server.wrap_socket(web.server.socket, server_side=True)
    web.serve("/a.png")
    resolve_as(monkeypatch, ["127.0.0.1"])
    named, other = (f"https://{host}:{web.port}/a.png" for host in ("pictures.example", "other.example"))
    assert refusal(named, allow_private=True).code == "media-fetch"  # signed by nobody we know
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch(named, allow_private=True) == BYTES
    assert refusal(other, allow_private=True).code == "media-fetch"
    assert web.hits == ["/a.png"]
