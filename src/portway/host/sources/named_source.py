"""Tells what the argument of `portway deploy` is: a folder, template:NAME or a git repository elsewhere."""

from pathlib import Path

from portway.host.git.remote import RemoteSource
from portway.host.git.remote_url import is_git_url
from portway.host.sources.folder_source import FolderSource
from portway.host.sources.source import Source
from portway.host.sources.template_source import TemplateSource

_TEMPLATE = "template:"


def is_folder(text: str) -> bool:
    """Return whether `text` names a folder; one that is called like another kind of source is written `./NAME`."""
    return not text.startswith(_TEMPLATE) and not is_git_url(text)


def named_source(text: str, app: str | None) -> Source | RemoteSource:
    """Return the source for an app of that name, None for one that is named after its source.

    A branch, a tag or a commit follows the address of a repository after #.
    """
    if is_folder(text):
        return FolderSource(Path(text))
    if is_git_url(text):
        return RemoteSource(text)
    return TemplateSource(text.removeprefix(_TEMPLATE), app)
