from __future__ import annotations

import os
from pathlib import Path

import pytest

from portway.host.sources.folder_source import FolderSource
from portway.host.sources.named_source import named_source
from portway.host.sources.source import SourceError, app_name


@pytest.mark.parametrize(
    ("folder", "given", "name"),
    [
        ("weather", None, "weather"),
        ("My_Weather Server", None, "my-weather-server"),
        ("1st", "first", "first"),
        ("any", "a" * 40, "a" * 40),
    ],
)
def test_an_app_is_named_like_its_folder_unless_told(folder: str, given: str | None, name: str) -> None:
    assert app_name(folder, given) == name


@pytest.mark.parametrize("given", ["", "9lives", "Weather", "a.b", "-a", "a-", "a/b", "_portway", "a" * 41, "a\n"])
def test_a_name_that_cannot_be_part_of_a_host_name_is_refused(given: str) -> None:
    with pytest.raises(SourceError, match=r"cannot name an app: give (--name|a name) of up to 40"):
        app_name("1", given)


def test_a_template_that_does_not_exist_is_refused_with_the_names_of_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no template 'go': use one of template:fastmcp, template:portway"):
        named_source("template:go", None).copy_to(tmp_path / "copy")


def test_a_copy_leaves_out_what_is_not_the_server(tmp_path: Path) -> None:
    for name in (
        ".git/HEAD",
        ".venv/bin/python",
        "node_modules/x.js",
        "__pycache__/a.pyc",
        "pkg/__pycache__/b.pyc",
        ".env",
    ):
        _write(tmp_path / "app" / name)
    for name in ("server.py", "pkg/data/rates.json", ".python-version", ".environment"):
        _write(tmp_path / "app" / name)

    FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")

    copied = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert copied == {"server.py", "pkg/data/rates.json", ".python-version", ".environment"}


def test_links_inside_the_folder_stay_links(tmp_path: Path) -> None:
    _write(tmp_path / "app" / "data" / "real.json")
    (tmp_path / "app" / "alias").symlink_to("data")
    FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "alias").readlink() == Path("data")
    assert (tmp_path / "copy" / "alias" / "real.json").read_text() == "x"


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "absolute"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    _write(tmp_path / "app" / "server.py")
    _write(tmp_path / "secret")
    (tmp_path / "app" / "link").symlink_to(tmp_path / "app" / "server.py" if target == "absolute" else target)
    with pytest.raises(SourceError, match="link is a link out of the folder"):
        FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a").symlink_to("b")
    (tmp_path / "app" / "b").symlink_to("a")
    with pytest.raises(SourceError, match="is a link that leads to itself: remove it"):
        FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")


def test_a_special_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    os.mkfifo(tmp_path / "app" / "pipe")
    with pytest.raises(SourceError, match="pipe is neither a file nor a folder"):
        FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no folder .*missing"):
        FolderSource(tmp_path / "missing").copy_to(tmp_path / "copy")


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
