"""Who calls the management API: the operator over the local socket, or a user with a token."""

from dataclasses import dataclass

from portway.auth.principal import ANONYMOUS, Principal
from portway.host.processes import local_user
from portway.host.users import User

_ISSUER, _USER = "portway users", "user"


@dataclass(frozen=True, slots=True)
class Caller:
    """A user who calls. `is_local`: over the local socket, so its caller can read the host's files anyway."""

    user: User
    is_local: bool


def principal_of(user: User, expires: float | None) -> Principal:
    """Return the principal of a user whose token was verified, and expires."""
    return Principal(_ISSUER, user.name, claims={_USER: user}, expires=expires)


def caller_of(principal: Principal) -> Caller:
    """Return who calls: the operator, or the user of a principal that `principal_of` made."""
    if principal is ANONYMOUS:
        return Caller(User(local_user(), "admin"), is_local=True)
    user = principal.claims[_USER]
    assert isinstance(user, User)
    return Caller(user, is_local=False)
