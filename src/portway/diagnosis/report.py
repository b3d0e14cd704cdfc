"""What a diagnosis has found: facts, and findings with their mend."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is as it should be, or is good to know. `subject` is a word such as "TLS"."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and what mends it."""

    subject: str
    text: str
    mend: str


class Stopped(Exception):
    """Nothing more can be looked at; the last finding says why."""


@dataclass(slots=True)
class Report:
    """What was found out so far, in the order of the looks; `tell` gets each as it comes."""

    tell: Callable[[Fact | Finding], None] = lambda _: None
    facts: list[Fact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def fact(self, subject: str, text: str) -> None:
        self.facts.append(Fact(subject, text))
        self.tell(self.facts[-1])

    def finding(self, subject: str, text: str, mend: str) -> None:
        self.findings.append(Finding(subject, text, mend))
        self.tell(self.findings[-1])

    def stop(self, subject: str, text: str, mend: str) -> Stopped:
        """Add a finding beyond which nothing can be looked at, and return the exception to raise."""
        self.finding(subject, text, mend)
        return Stopped()
