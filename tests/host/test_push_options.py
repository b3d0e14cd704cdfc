"""The options of a push: the flags of a deploy under the same names."""

from __future__ import annotations

import pytest

from portway.cli.main import cli
from portway.host.app_config import Disk
from portway.host.git.push_options import PushRefused, read_options, write_options

FLAGS = {
    "access": "public",
    "origins": ["https://a.example", "https://b.example"],
    "upstream_token": "TOKEN",
    "runtime": "node",
    "root_dir": "app",
    "build_command": "npm run a=b",
    "start_command": "",
    "server": "a.py:mcp",
    "num_instances": 3,
    "storage_gb": 2,
    "contract": "locked",
    "accept": ["contract-1"],
    "allowed": [".env", "*.pem"],
    "skip": True,
}
SENT_BEFORE = {"name", "public", "variables", "source", "on", "data", "output"}  # the address, or a call


def test_what_a_deploy_writes_a_push_reads() -> None:
    options = write_options(FLAGS)
    assert "build=npm run a=b" in options
    read = read_options(options)
    assert (read.skip, read.force, read.deploy, read.accept, read.allowed) == (
        *(True, False, False),
        FLAGS["accept"],
        FLAGS["allowed"],
    )
    changes = {name: value for name, value in FLAGS.items() if name not in ("accept", "allowed", "skip", "storage_gb")}
    assert read.changes == changes | {"disk": Disk(size_gb=2)}
    assert read_options(write_options({"origins": [], "storage_gb": 0})).changes == {"origins": [], "disk": None}
    assert read_options(write_options({"server": None, "accept": [], "skip": False})).changes == {}


def test_every_flag_of_deploy_can_be_sent() -> None:
    command = cli.get_command(None, "deploy")  # type: ignore[arg-type]
    assert command is not None
    assert {parameter.name for parameter in command.params} - SENT_BEFORE == {*FLAGS}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("colour=red", "there is no push option 'colour=red': the options are force, skip, deploy, access=…, allow-"),
        ("skip=1", "there is no push option 'skip=1': the options are force"),
        ("", "there is no push option '': the options are"),
        ("access=all", "the push option access cannot be 'all': Invalid enum value 'all'"),
        ("instances=many", "the push option instances cannot be 'many': Expected `int"),
        ("instances=0", "the push option instances cannot be '0': Expected `int` >= 1"),
        ("allow-origin=here", "'here' is not an origin; write scheme, host and port"),
    ],
)
def test_an_option_that_cannot_be_is_refused(option: str, told: str) -> None:
    with pytest.raises(PushRefused) as refused:
        read_options([option])
    assert str(refused.value).startswith(told)
