"""Files and folders as resources: what is inside the folder is served, any path that leads outside is not."""

import base64
import errno
import mimetypes
import os
import socket

import pytest

from portway import RegistrationError, Server
from portway.server import file_resources
from tests.server.one_request import ask

PNG = b"\x89PNG\r\n\x1a\n\x00"


@pytest.fixture
def folder(tmp_path):
    """A folder with files of all kinds; text "planted" must never be read."""
    root = tmp_path / "docs"
    (root / "guide" / ".drafts").mkdir(parents=True)
    (root / "index.md").write_text("# Hé")
    (root / "guide" / "one.txt").write_text("one")
    (root / "guide" / "two words.json").write_text("{}")
    (root / "guide" / "Ž").write_text("plain")
    (root / "logo.png").write_bytes(PNG)
    (root / "latin.txt").write_bytes(b"\xe9")
    (root / "123").write_text("named by a number")
    (root / "nul.txt").write_bytes(b"a\0b")
    (root / "blob").write_bytes(b"a\0b")
    (root / "old.tar.gz").write_bytes(b"\x1f\x8b")
    (root / ".env").write_text("TOKEN=planted")
    (root / "guide" / ".drafts" / "x.md").write_text("planted")
    (tmp_path / "outside.txt").write_text("planted")
    (root / "inside.md").symlink_to(root / "index.md")
    (root / "escape.txt").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "hidden.txt").symlink_to(root / ".env")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
    return root


@pytest.fixture
def server(folder):
    server = Server("files")
    server.add_folder("docs://{+path}", folder, description="All of it.")
    server.add_folder("list://docs{/way*}", folder)
    server.add_file("file://index", folder / "inside.md", title="The index")
    return server


def read(server, uri):
    return ask(server, "resources/read", {"uri": uri})


SERVED = [  # path, type, text or bytes
    ("index.md", "text/markdown", "# Hé"),
    ("inside.md", "text/markdown", "# Hé"),
    ("guide/one.txt", "text/plain", "one"),
    ("guide/two%20words.json", "application/json", "{}"),
    ("guide%2Fone.txt", "text/plain", "one"),
    ("guide/%C5%BD", "text/plain", "plain"),
    ("logo.png", "image/png", PNG),
    ("latin.txt", "text/plain", b"\xe9"),
    ("123", "text/plain", "named by a number"),
    ("nul.txt", "text/plain", "a\0b"),
    ("blob", "application/octet-stream", b"a\0b"),
    ("old.tar.gz", "application/gzip", b"\x1f\x8b"),
]
NOT_THERE = [
    *("none.md", "guide", "guide/", "", "index.md/x", "guide//one.txt"),
    *(".env", "guide/.drafts/x.md", "hidden.txt", "loop", "pipe", "socket"),
    *("escape.txt", "up/outside.txt", "up/docs/index.md/../../outside.txt", "../outside.txt", "%2e%2e/outside.txt"),
    *("guide/%2e%2e/%2e%2e/outside.txt", "..%2Foutside.txt", "/etc/passwd", "%2Fetc%2Fpasswd", "..%5Coutside.txt"),
    *("index.md%00.png", "x" * 300, "x" * 5000),
]


@pytest.mark.parametrize(("path", "mime_type", "content"), SERVED)
def test_a_file_of_a_folder_is_served_as_text_or_bytes(server, path, mime_type, content):
    (entry,) = read(server, f"docs://{path}")["result"]["contents"]
    assert (entry["uri"], entry["mimeType"]) == (f"docs://{path}", mime_type)
    assert (entry["text"] if isinstance(content, str) else base64.b64decode(entry["blob"])) == content


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_no_file_or_hidden_or_outside_is_not_found(server, path):
    reply = read(server, f"docs://{path}")
    assert reply["error"] == {
        "code": -32002,
        "message": "There is no such resource.",
        "data": {"uri": f"docs://{path}"},
    }


@pytest.mark.parametrize(
    ("name", "mime_type", "is_text"),
    [
        ("a.toml", "application/toml", True),
        ("a.yaml", "application/yaml", True),
        ("a.yml", "application/yaml", True),
        ("a.html", "text/html", True),
        ("a.xsl", "application/xml", True),
        ("a.sh", "application/x-sh", True),
        ("a.js", mimetypes.types_map[".js"], True),
        ("a.svg", "image/svg+xml", True),
        ("a.webmanifest", "application/manifest+json", True),
        ("a.pdf", "application/pdf", False),
        ("a.txt.bz2", "application/x-bzip2", False),
        ("a.txt.gz", "application/gzip", False),
        ("a.odd", "text/plain", True),
    ],
)
def test_the_type_of_a_file_comes_from_its_name_and_says_whether_it_is_text(server, folder, name, mime_type, is_text):
    (folder / name).write_text("text")
    (entry,) = read(server, f"docs://{name}")["result"]["contents"]
    assert (entry["mimeType"], "text" in entry) == (mime_type, is_text)


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, -32002), (errno.EPERM, -32002), (errno.EIO, -32603)])
def test_a_file_that_may_not_be_read_is_not_found_and_a_broken_disk_is_an_error(server, monkeypatch, number, code):
    original = os.open

    def refused(path, *arguments, **options):
        if path == "index.md":
            raise OSError(number, os.strerror(number))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "supports_dir_fd", {refused})
    assert read(server, "docs://index.md")["error"]["code"] == code


def test_a_folder_can_be_a_list_of_segments(server):
    assert read(server, "list://docs/guide/one.txt")["result"]["contents"][0]["text"] == "one"
    assert read(server, "list://docs/index.md")["result"]["contents"][0]["text"] == "# Hé"
    assert "error" in read(server, "list://docs")


def test_a_file_is_read_for_every_request_and_not_found_once_it_is_gone(server, folder):
    (folder / "index.md").write_text("new")
    assert read(server, "file://index")["result"]["contents"] == [
        {"uri": "file://index", "mimeType": "text/markdown", "text": "new"}
    ]
    (folder / "index.md").unlink()
    assert read(server, "file://index")["error"]["code"] == -32002


def test_a_file_beyond_the_bound_is_an_error_that_says_so(server, folder):
    with (folder / "big.bin").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    server.add_file("file://big", folder / "big.bin")
    for uri in ("docs://big.bin", "file://big"):
        said = read(server, uri)["error"]["message"]
        assert said == "big.bin is larger than 16 MiB, the most this server reads of a file."


def test_a_single_file_is_text_or_bytes_by_its_type(server, folder):
    (folder / "ascii.png").write_text("text")
    server.add_file("file://ascii", folder / "ascii.png")
    server.add_file("file://said", folder / "ascii.png", mime_type="text/plain")
    assert read(server, "file://ascii")["result"]["contents"][0]["blob"] == base64.b64encode(b"text").decode()
    assert read(server, "file://said")["result"]["contents"][0]["text"] == "text"


def test_a_file_is_read_up_to_the_bound_however_large_it_was_said_to_be(server, folder, monkeypatch):
    monkeypatch.setattr(file_resources, "MAX_BYTES", 10)
    original = os.fstat
    for size in (10, 11):
        (folder / "index.md").write_bytes(b"x" * size)
        for said in (size, 5):  # one that grows while it is read was smaller

            def stat(file, said=said):
                status = list(original(file))
                status[6] = said
                return os.stat_result(status)

            with monkeypatch.context() as patch:
                patch.setattr(os, "fstat", stat)
                reply = read(server, "docs://index.md")
            if size == 11:
                assert "index.md is larger than" in reply["error"]["message"]
            else:
                assert reply["result"]["contents"][0]["text"] == "x" * 10


def test_no_descriptor_stays_open(server, folder):
    def ask_all():
        for path, _, _ in SERVED:
            read(server, f"docs://{path}")
        for path in NOT_THERE:
            read(server, f"docs://{path}")
        for begun, values in COMPLETED:
            assert file_resources.path_completer(str(folder))(begun) == values

    ask_all()
    before = len(os.listdir("/dev/fd"))
    ask_all()
    assert len(os.listdir("/dev/fd")) == before


def test_the_lists_name_the_file_and_the_folder(server):
    (file,) = ask(server, "resources/list")["result"]["resources"]
    assert file == {"uri": "file://index", "name": "inside.md", "title": "The index", "mimeType": "text/markdown"}
    first, second = ask(server, "resources/templates/list")["result"]["resourceTemplates"]
    assert first == {"uriTemplate": "docs://{+path}", "name": "docs", "description": "All of it."}
    assert second["uriTemplate"] == "list://docs{/way*}"


COMPLETED = [
    ("", ["123", "blob", "guide/", "index.md", "inside.md", "latin.txt", "logo.png", "nul.txt", "old.tar.gz"]),
    ("in", ["index.md", "inside.md"]),
    ("guide/", ["guide/one.txt", "guide/two words.json", "guide/Ž"]),
    ("guide/t", ["guide/two words.json"]),
    *[(begun, []) for begun in (".", "guide/.", "up/", "../", "none/", "/", "\0/", "guide//", "index.md/")],
]


@pytest.mark.parametrize(("begun", "values"), COMPLETED)
def test_the_path_of_a_folder_completes_with_what_can_be_read(server, begun, values):
    argument = {"name": "path", "value": begun}
    reply = ask(
        server, "completion/complete", {"ref": {"type": "ref/resource", "uri": "docs://{+path}"}, "argument": argument}
    )
    assert reply["result"]["completion"] == {"values": values, "total": len(values), "hasMore": False}


def test_a_missing_file_or_folder_is_refused_at_registration(tmp_path):
    server = Server("files")
    with pytest.raises(RegistrationError, match="add_file: there is no file"):
        server.add_file("a://b", tmp_path)
    with pytest.raises(RegistrationError, match="add_folder: there is no folder"):
        server.add_folder("a://{+path}", tmp_path / "none")
    for template in ("a://b", "a://{x}/{y}", "a://b{?x}"):
        with pytest.raises(RegistrationError, match=r"needs one variable, the path, as in docs://\{\+path\}"):
            server.add_folder(template, tmp_path)


def test_a_relative_path_is_resolved_at_registration(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = Server("files")
    server.add_folder("docs://{+path}", "docs")
    server.add_file("file://index", "docs/index.md")
    monkeypatch.chdir(folder / "guide")
    assert [read(server, uri)["result"]["contents"][0]["text"] for uri in ("docs://index.md", "file://index")] == [
        "# Hé"
    ] * 2


@pytest.mark.parametrize(
    ("level", "target"), [("guide", "."), ("guide/deep", "."), ("guide/deep/x.txt", "x.txt"), ("guide/deep/x.txt", ".")]
)
def test_what_is_swapped_for_a_link_while_it_is_read_leads_nowhere(folder, tmp_path, monkeypatch, level, target):
    (folder / "guide" / "deep").mkdir()
    (folder / "guide" / "deep" / "x.txt").write_text("inside")
    outside = tmp_path / "elsewhere"
    (outside / "deep").mkdir(parents=True)
    for place in (outside, outside / "deep"):
        (place / "x.txt").write_text("planted")
    server = Server("files")
    server.add_folder("docs://{+path}", folder)
    original = file_resources._inside

    def swapped(directory, path):
        found = original(directory, path)  # the path is judged, then the folder is replaced
        (folder / level).rename(tmp_path / "moved")
        (folder / level).symlink_to(outside / target)
        return found

    assert read(server, "docs://guide/deep/x.txt")["result"]["contents"][0]["text"] == "inside"
    monkeypatch.setattr(file_resources, "_inside", swapped)
    assert read(server, "docs://guide/deep/x.txt")["error"]["code"] == -32002


def test_a_folder_swapped_for_a_link_is_not_listed_by_completion(folder, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "planted").write_text("planted")
    original = file_resources._inside

    def swapped(directory, path):
        found = original(directory, path)
        if path == "guide" and not (folder / "guide").is_symlink():
            (folder / "guide").rename(tmp_path / "moved")
            (folder / "guide").symlink_to(tmp_path / "elsewhere")
        return found

    complete = file_resources.path_completer(str(folder))
    assert "guide/one.txt" in complete("guide/")
    monkeypatch.setattr(file_resources, "_inside", swapped)
    assert complete("guide/") == []


def test_files_whose_names_are_not_utf_8_break_no_list_and_no_completion(folder):
    odd = os.fsdecode(b"odd\xff.txt")
    (folder / odd).write_text("odd")
    server = Server("files")
    server.add_folder("docs://{+path}", folder)
    server.add_file("file://odd", folder / odd)
    params = {"ref": {"type": "ref/resource", "uri": "docs://{+path}"}, "argument": {"name": "path", "value": "o"}}
    assert ask(server, "completion/complete", params)["result"]["completion"]["values"] == ["old.tar.gz"]
    assert ask(server, "resources/list")["result"]["resources"][0]["name"] == "odd\ufffd.txt"
    assert read(server, "file://odd")["result"]["contents"][0]["text"] == "odd"
    assert read(server, "docs://odd%FF.txt")["error"]["code"] == -32002


def test_a_path_longer_than_any_is_not_found_without_a_walk(server, monkeypatch):
    walked = []
    original = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **options: walked.append(path) or original(path, **options))
    assert "error" in read(server, f"docs://{'a/' * 20_000}b")
    assert all(len(path) < 4096 for path in map(str, walked))
