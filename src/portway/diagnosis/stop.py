"""Why a known client comes no further in a login, as `portway check URL --auth` says it."""

from dataclasses import dataclass

from portway.client.errors import Step


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a client comes no further: the step, the rule that is broken there, what is wrong, and what mends it."""

    step: Step
    rule: str
    text: str
    mend: str
