"""A template as a source (`portway deploy template:NAME`)."""

from dataclasses import dataclass
from pathlib import Path

from portway.host.sources.source import SourceError, app_name
from portway.host.templates.template import TEMPLATES


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A `Source`: the files of the template called `name`, for the app `given`, by default called like the template."""

    name: str
    given: str | None

    @property
    def location(self) -> str:
        return f"template:{self.name}"

    async def variables(self) -> dict[str, str]:
        return {}

    def copy_to(self, target: Path) -> None:
        """Raise `SourceError` when there is no such template."""
        template = TEMPLATES.get(self.name)
        if template is None:
            known = ", ".join(f"template:{name}" for name in TEMPLATES)
            raise SourceError(f"there is no template {self.name!r}: use one of {known}")
        for name, content in template.files(app_name(self.name, self.given)).items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
