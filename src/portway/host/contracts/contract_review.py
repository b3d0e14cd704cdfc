"""Whether the changes of a contract stop a deploy (`contract: breaking`, `locked`), and how they are accepted
(`--accept`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from portway.host.app_config import ContractPolicy
from portway.host.contracts.contract_changes import ComponentChange, ContractChanges, detailed, digest


@dataclass(frozen=True, slots=True)
class Review:
    """What changes in the contract of one app, and which of it its policy stops."""

    app: str
    changes: ContractChanges
    stopped: list[ComponentChange]

    @property
    def id(self) -> str:
        """The id of exactly the changes that are stopped, "" for none."""
        return digest(self.stopped) if self.stopped else ""


def review(app: str, changes: ContractChanges, policy: ContractPolicy) -> Review:
    """Judge the changes of an app: `breaking` stops those that callers may fail by, `locked` all."""
    stopped = {"report": [], "breaking": changes.breaking, "locked": changes.changes}
    return Review(app, changes, stopped[policy])


def refusal(reviews: Sequence[Review], accepted: Collection[str]) -> str:
    """Return which changes stop a deploy of these apps, and how they are accepted; "" if it goes on."""
    stopped = [each for each in reviews if each.id and each.id not in accepted]
    if not stopped:
        return ""
    lines = []
    for each in stopped:
        lines += [f"of {each.app}:" if len(reviews) > 1 else "", *detailed(each.stopped)]
    needed = [each.id for each in reviews if each.id]
    push = " ".join(f"-o accept={one}" for one in needed)
    flags = " ".join(f"--accept {one}" for one in needed)
    if unknown := [one for one in dict.fromkeys(accepted) if one not in needed]:
        lines.append(f"  accepted was {', '.join(unknown)}, which is another change")
    lines.append(f"  to accept exactly this: git push {push}, or portway deploy {flags}")
    return "\n".join(filter(None, lines))
