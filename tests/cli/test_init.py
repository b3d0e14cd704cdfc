"""`portway init`: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from portway.host.templates.template import TEMPLATES
from tests.conftest import RunCli
from tests.support import ROOT

EVERYWHERE = {".env", ".env.example", ".gitignore", "AGENTS.md", "README.md", "render.yaml"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_has_the_name_of_its_folder_and_a_new_token_that_only_its_owner_reads(
    run_cli: RunCli, tmp_path: Path, template: str
) -> None:
    tokens = set()
    for folder in ("My Shop", "other"):
        done = run_cli("init", folder, "--template", template, "-o", "json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        place = Path(made["folder"])
        assert set(made["files"]) >= EVERYWHERE
        assert sorted(made["files"]) == sorted(
            str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()
        )
        assert f'name: "{made["app"]}"' in (place / "render.yaml").read_text()
        assert "weather-mcp" not in "".join(path.read_text() for path in place.rglob("*") if path.is_file())
        assert ".env" in (place / ".gitignore").read_text().split()
        assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600
        found = re.search(r"^MCP_API_TOKEN=(\S{43})$", (place / ".env").read_text(), re.MULTILINE)
        assert found
        assert found[1] not in done.stdout + done.stderr
        tokens.add(found[1])
        assert run_cli("check", place).returncode == 0
    assert len(tokens) == 2
    assert (tmp_path / "My Shop").is_dir()


def test_the_folder_of_now_is_the_default_and_the_next_steps_are_three_lines(run_cli: RunCli, tmp_path: Path) -> None:
    here = tmp_path / "shop"
    here.mkdir()
    done = run_cli("init", cwd=here)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run", "test", "deploy"]
    assert "of the template fastmcp" in done.stderr
    assert (here / "server.py").is_file()


def test_what_exists_is_named_and_nothing_is_written(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "README.md").write_text("mine")
    (tmp_path / "shop" / ".env").symlink_to("nowhere")
    done = run_cli("init", "shop")
    assert done.returncode == 1
    assert re.search("shop has README.md, .env already: move that away, or give another DIR", done.stderr)
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [".env", "README.md"]
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "tests").write_text("mine")
    done = run_cli("init", "else")
    assert "else has tests already: move that away, or give another DIR" in done.stderr
    assert [path.name for path in (tmp_path / "else").iterdir()] == ["tests"]


def test_a_folder_whose_name_no_app_can_have_needs_another_one(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("init", "2024")
    assert done.returncode == 1
    assert "'2024' cannot name an app: give --name" in done.stderr
    assert not (tmp_path / "2024").exists()
    assert run_cli("init", "2024", "--name", "shop").returncode == 0


def test_the_commands_that_are_printed_are_for_a_shell(run_cli: RunCli) -> None:
    assert "run     cd 'My Shop' && " in run_cli("init", "My Shop").stdout


def test_each_template_is_a_folder() -> None:
    files = ROOT / "src" / "portway" / "host" / "templates" / "files"
    assert {path.name for path in files.iterdir()} == {*TEMPLATES}
