"""Names under localhost, which lead to this machine for everybody (RFC 6761 section 6.3)."""


def name_to_look_up(host: str) -> str:
    """Return the name to ask a resolver for: not every resolver knows that names under localhost are this machine."""
    return "localhost" if host.endswith(".localhost") else host
