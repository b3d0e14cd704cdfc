"""Tells an app what it is: Render's variables (RENDER_EXTERNAL_URL …) and the lists of allowed hosts and origins.

What Render sets and is not true here is left out: RENDER_DISCOVERY_SERVICE, and gunicorn's arguments with a port.
"""

import os

from portway.host.public_address import PublicAddress
from portway.host.releases.release import Release


def render_variables(release: Release, address: PublicAddress) -> dict[str, str]:
    """Return the variables for the instances of a release on the host at `address`."""
    hostname = address.hostname(release.app)
    url = address.origin(hostname)
    return {
        "RENDER": "true",
        "IS_PULL_REQUEST": "false",
        "RENDER_SERVICE_ID": f"srv-{release.app}",
        "RENDER_SERVICE_NAME": release.app,
        "RENDER_SERVICE_TYPE": "web",
        "RENDER_EXTERNAL_HOSTNAME": hostname,
        "RENDER_EXTERNAL_URL": url,
        "RENDER_CPU_COUNT": f"{release.config.limits.cpu or os.cpu_count() or 1:g}",
        # A server keeps sessions in one process, and instances are what there may be several of.
        "RENDER_WEB_CONCURRENCY": "1",
        "WEB_CONCURRENCY": "1",
        "FORWARDED_ALLOW_IPS": "*",  # X-Forwarded-* is the gate's word, as nobody else reaches an instance
        "PORTWAY_ACCESS": release.config.access,
        "PORTWAY_ALLOWED_HOSTS": f"{hostname},{address.domain}",
        "PORTWAY_ALLOWED_ORIGINS": ",".join([url, *release.config.origins]),
        # The gate asks a legacy client to confirm a call only in a session.
        **({"PORTWAY_SESSIONS": "1"} if any(rule.confirm for rule in release.config.policies) else {}),
    }
