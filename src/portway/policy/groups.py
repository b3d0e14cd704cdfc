"""The scopes that callers have by the groups in a claim of their tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from portway.auth.principal import Principal


@dataclass(frozen=True)
class Groups:
    """The scopes of each group. `claim` is the claim of a token that lists the groups of its owner.

    The claim may be a text for one group, or lie in others, as in `realm_access.roles`.
    """

    claim: str
    scopes: Mapping[str, Sequence[str]]

    def joined(self, principal: Principal) -> Principal:
        """Return the caller with the scopes of its groups beside those of its token."""
        found = [self.scopes[each] for each in groups_in(principal.claims, self.claim) if each in self.scopes]
        return replace(principal, scopes=principal.scopes.union(*found)) if found else principal


def groups_in(claims: Mapping[str, object], claim: str) -> list[str]:
    """Return the groups that a claim lists. It may be a text for one group, or lie in others: `realm_access.roles`."""
    value: object = claims.get(claim)
    if value is None and "." in claim:
        value = claims
        for name in claim.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
