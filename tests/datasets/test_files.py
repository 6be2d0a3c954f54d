"""Finding files, and fetching them from a local HTTP server that misbehaves in every way we know of."""

import hashlib
import socket
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from benchmark.datasets.reading.files import Remote, download, find, fits, git_blob_id, identity, listing
from benchmark.datasets.wikipedia import Wikipedia

from benchmark.core.dataset import DataRequest
from benchmark.disk import locked
from benchmark.errors import DataError

CONTENT = np.random.default_rng(0).bytes(600_000)
BLOB = hashlib.sha1(b"blob 600000\0" + CONTENT).hexdigest()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 600000\n"


def begin(handler, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def drips(handler, start):
    begin(handler, Content_Length=600_000)
    for at in range(600):
        handler.wfile.write(CONTENT[at : at + 1])
        time.sleep(0.05)


def drips_in_chunks(handler, start):
    begin(handler, Transfer_Encoding="chunked")
    handler.wfile.write(b"92000\r\n")  # one chunk of 598,016 bytes, which never is whole
    for at in range(600):
        handler.wfile.write(CONTENT[at : at + 1])
        time.sleep(0.05)


def drips_headers(handler, start):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    for _ in range(600):
        handler.wfile.write(b"a")
        time.sleep(0.05)


def stalls(handler, start):
    begin(handler, Content_Length=600_000)
    handler.wfile.write(CONTENT[:100])
    time.sleep(30)


def has_no_range(handler, start):
    """Says that it sends a part, and not which."""
    begin(handler, 206 if start else 200, Content_Length=600_000 - start)
    handler.wfile.write(CONTENT[start:])


def never_ends(handler, start):
    begin(handler)
    while True:
        handler.wfile.write(CONTENT)


def has_an_odd_length(handler, start):
    begin(handler, Content_Length="\xb2")
    handler.wfile.write(CONTENT)


HOSTILE = {
    each.__name__: each
    for each in (drips, drips_in_chunks, drips_headers, stalls, has_no_range, never_ends, has_an_odd_length)
}


class Server(ThreadingHTTPServer):
    """Serves CONTENT under paths that name their misbehaviour; ``seen`` records (path, Range header)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []

    def handle_error(self, request, client_address):
        pass  # the client hangs up on purpose

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        way, asked = self.path[1:], self.headers.get("Range")
        first = way not in [path for path, _ in self.server.seen]
        self.server.seen.append((way, asked))
        body = {"wrong": CONTENT[::-1], "pointer": POINTER, "short": CONTENT[:-5]}.get(way, CONTENT)
        if way == "404":
            return self.send_error(404)
        if way == "slow":
            time.sleep(0.5)
        if way == "endless":  # no Content-Length
            self.send_response(200)
            self.end_headers()
            return self.wfile.write(body)
        if way in HOSTILE:
            return HOSTILE[way](self, int(asked[6:-1]) if asked else 0)
        start = int(asked[6:-1]) if asked and way != "norange" else 0
        if start >= len(body):
            return self.send_error(416)
        shift = 1 if way == "shifted" and start else 0
        self.send_response(206 if asked and way != "norange" else 200)
        self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        breaks = (way == "breaks-once" and first) or way in ("stops-at-once", "breaks-always")
        if breaks:
            stop = start if way == "stops-at-once" else start + 100_000
            self.wfile.write(body[start:stop])
            return self.connection.shutdown(socket.SHUT_RDWR)
        return self.wfile.write(body[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def remote(*urls, **facts):
    return Remote("x.mat", urls, **({"blob": BLOB} | facts))


def is_complete(folder):
    return [p.name for p in folder.iterdir()] == ["x.mat"] and (folder / "x.mat").read_bytes() == CONTENT


def resumed_at(header):
    return int(header.removeprefix("bytes=").removesuffix("-"))


def test_git_blob_ids_are_gits(tmp_path):
    (tmp_path / "empty").touch()
    assert git_blob_id(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_file_is_fetched_once(server, tmp_path):
    said = []
    for _ in range(2):
        assert download(remote(server.url("full")), tmp_path / "new", said.append) == tmp_path / "new/x.mat"
        assert is_complete(tmp_path / "new")
    assert server.seen == [("full", None)]
    assert said[-1] == "x.mat: 0.6 of 0.6 MB"


def test_sha256_is_accepted_too(server, tmp_path):
    download(remote(server.url("full"), blob="", sha256=hashlib.sha256(CONTENT).hexdigest()), tmp_path)
    assert is_complete(tmp_path)
    with pytest.raises(DataError, match=r"wrong content \(sha256"):
        download(Remote("y.mat", (server.url("full"),), sha256="0" * 64), tmp_path)


@pytest.mark.parametrize(
    ("way", "name", "there", "asked"),
    {
        "a wrong file of that name": ("full", "x.mat", b"old", None),
        "what an earlier call began": ("full", "x.mat.part", CONTENT[:250_000], "bytes=250000-"),
        "a part, which the server does not go on with": ("norange", "x.mat.part", CONTENT[:250_000], ...),
        "a complete part, which is only verified": ("full", "x.mat.part", CONTENT, "bytes=600000-"),
        "a stale part": ("full", "x.mat.part", b"x" * 1000, None),
        "a stale part longer than the file": ("full", "x.mat.part", b"x" * 700_000, None),
        "nothing, and no length is said": ("endless", "y.mat", b"", None),
    }.values(),
)
def test_whatever_is_there_the_file_is_fetched(server, tmp_path, way, name, there, asked):
    (tmp_path / name).write_bytes(there)
    download(remote(server.url(way)), tmp_path)
    (tmp_path / "y.mat").unlink(missing_ok=True)
    assert is_complete(tmp_path)
    assert asked is ... or server.seen[-1] == (way, asked)


def test_many_processes_fetch_a_file_once(server, tmp_path):
    code = """
        import sys
        from pathlib import Path
        from benchmark.datasets.reading.files import Remote, download
        download(Remote("x.mat", (sys.argv[1],), blob=sys.argv[2]), Path(sys.argv[3]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), server.url("slow"), BLOB, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, "".join(errors)
    assert is_complete(tmp_path)
    assert server.seen == [("slow", None)]


def test_who_has_to_wait_for_a_file_is_told(server, tmp_path):
    said = []
    with locked(tmp_path / ".x.mat.lock"):
        thread = threading.Thread(target=download, args=(remote(server.url("full")), tmp_path, said.append))
        thread.start()
        time.sleep(0.3)
        assert server.seen == []
    thread.join()
    assert is_complete(tmp_path)
    assert said[0] == "x.mat: another process is fetching it; waiting"


def test_a_broken_transfer_is_resumed(server, tmp_path):
    download(remote(server.url("breaks-once")), tmp_path)
    assert is_complete(tmp_path)
    (_, first), (_, second) = server.seen
    assert first is None
    assert 0 < resumed_at(second) <= 100_000  # where the server broke off, less what was under way


def test_what_one_mirror_began_another_ends(server, tmp_path):
    download(remote(server.url("404"), server.url("breaks-always"), server.url("full")), tmp_path)
    assert is_complete(tmp_path)
    assert server.seen[0] == ("404", None)
    assert server.seen[-1][0] == "full"
    assert 100_000 < resumed_at(server.seen[-1][1]) <= 500_000  # several attempts of 100,000 bytes each


@pytest.mark.parametrize(
    ("way", "reason"),
    {
        "404": "HTTP 404",
        "wrong": "wrong content .git blob .* expected .*; 600000 bytes",
        "short": "wrong content .* 599995 bytes",
        "pointer": "Git LFS pointer",
        "stops-at-once": "broke off",
        "breaks-always": "broke off",
    }.items(),
)
def test_a_wrong_answer_leaves_no_file(way, reason, server, tmp_path):
    with pytest.raises(DataError, match=reason) as caught:
        download(remote(server.url(way)), tmp_path)
    assert "\n" not in str(caught.value)
    assert "x.mat was not fetched" in str(caught.value)
    assert not (tmp_path / "x.mat").exists()
    kept = way in ("stops-at-once", "breaks-always")  # only what may be resumed stays
    assert not (tmp_path / "x.mat.part").exists() or kept


@pytest.mark.parametrize("way", ["shifted", "has_no_range"])
def test_after_another_range_than_asked_for_it_begins_anew(way, server, tmp_path):
    (tmp_path / "x.mat.part").write_bytes(CONTENT[:1000])
    download(remote(server.url(way)), tmp_path)
    assert is_complete(tmp_path)
    assert server.seen == [(way, "bytes=1000-"), (way, None)]


@pytest.fixture
def impatient(monkeypatch):
    files = sys.modules[download.__module__]
    hasty = files.Patience(connection=2, silence=0.5, answer=1, window=0.5, rate=4096)
    monkeypatch.setattr(files, "PATIENCE", hasty)


@pytest.mark.parametrize(
    ("way", "reason"),
    {
        "drips": r"too slow: \d+ bytes in \d s",
        "drips_in_chunks": "too slow",
        "drips_headers": "it gives no answer",
        "stalls": r"stalled: nothing came for 0\.5 s",
        "never_ends": "larger than the limit",
    }.items(),
)
@pytest.mark.usefixtures("impatient")
def test_a_server_that_would_go_on_for_ever_is_left(way, reason, server, tmp_path):
    begun = time.monotonic()
    with pytest.raises(DataError, match=reason) as caught:
        download(remote(server.url(way), limit=10_000_000), tmp_path)
    assert time.monotonic() - begun < 15
    assert "cannot reach" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_another_mirror_ends_what_a_slow_one_began(server, tmp_path):
    download(remote(server.url("drips"), server.url("full")), tmp_path)
    assert is_complete(tmp_path)
    assert server.seen[-1][0] == "full"
    assert server.seen[-1][1] is not None  # from where the slow one was


def test_a_length_that_is_no_number_is_none(server, tmp_path):
    download(remote(server.url("has_an_odd_length")), tmp_path)
    assert is_complete(tmp_path)


@pytest.mark.parametrize("way", ["full", "endless"])
def test_a_file_over_the_limit_is_refused(way, server, tmp_path):
    with pytest.raises(DataError, match="larger than the limit of 1000 bytes"):
        download(remote(server.url(way), limit=1000), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_offline_is_said(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        with pytest.raises(DataError, match=r"cannot reach it .*without a network, copy the file there"):
            download(remote(url, url), tmp_path)


def test_a_folder_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot store"):
        download(remote(server.url("full")), tmp_path / "file" / "below")


def test_fetching_a_dataset_fills_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    wanted = Remote("wiki.mat", (server.url("404"), server.url("full")), blob=BLOB)
    monkeypatch.setattr(Wikipedia, "remotes", (wanted,))
    dataset, request = Wikipedia(), DataRequest(source="official")
    assert dataset.fetch(request) == dataset.fetch(request) == [tmp_path / "data/wikipedia/wiki.mat"]
    assert len(server.seen) == 2
    assert dataset.locate(request).files == (tmp_path / "data/wikipedia/wiki.mat",)


# --- finding ---


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_two_folder_levels_are_searched_nearest_first(tmp_path):
    near, far, deep = tmp_path / "b/wiki.mat", tmp_path / "a/b/wiki.mat", tmp_path / "a/b/c/wiki.mat"
    touch(near, far, deep, tmp_path / ".hidden/wiki.mat")
    assert [p for p in listing(tmp_path) if p.name == "wiki.mat"] == [near, far]
    assert find([("wiki.mat",)], [tmp_path / "absent", tmp_path]) == (near,)
    assert find([("wiki.mat",)], [tmp_path / "a/b/c"]) == (deep,)
    assert find([("wiki.mat",)], [deep]) == (deep,)


def test_earlier_roots_then_earlier_names_win(tmp_path):
    touch(tmp_path / "one/second.mat", tmp_path / "two/first.mat", tmp_path / "two/second.mat")
    groups = [("first.mat",), ("second.mat",)]
    assert find(groups, [tmp_path / "one", tmp_path / "two"])[0] == tmp_path / "one/second.mat"
    assert find(groups, [tmp_path / "two"])[0] == tmp_path / "two/first.mat"


def test_a_group_is_found_only_complete(tmp_path):
    touch(tmp_path / "a/x.mat", tmp_path / "b/x.mat", tmp_path / "b/y.mat")
    assert find([("x.mat", "y.mat")], [tmp_path]) == (tmp_path / "b/x.mat", tmp_path / "b/y.mat")
    assert find([("x.mat", "z.mat")], [tmp_path]) == ()


def test_patterns_may_name_the_folder(tmp_path):
    assert fits(tmp_path / "XMedia/Features.mat", "xmedia/features.mat")
    assert fits(tmp_path / "wiki_data/images.mat", "wiki*/images.mat")
    assert not fits(tmp_path / "other/Features.mat", "xmedia/features.mat")


def test_the_identity_follows_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a")
    before = identity([path])
    assert identity([path]) == before
    path.write_bytes(b"ab")
    assert identity([path]) != before
