"""The source that a text names, as `portway deploy` is given it: a folder, or KIND:NAME."""

from pathlib import Path

from portway.host.builds.folder_source import FolderSource
from portway.host.builds.source import Source
from portway.host.builds.template_source import TemplateSource

_TEMPLATE = "template:"


def is_folder(text: str) -> bool:
    """Return whether `text` names a folder; one that is called like another kind of source is written `./NAME`."""
    return not text.startswith(_TEMPLATE)


def named_source(text: str, app: str | None) -> Source:
    """Return the source for an app of that name, None for one that is named after its source."""
    if is_folder(text):
        return FolderSource(Path(text))
    return TemplateSource(text.removeprefix(_TEMPLATE), app)
