"""The host's database, one SQLite file: tables, rows, queries, migrations. Only control imports this package."""

from portway.host.store.records import (
    A_DEPLOY,
    AppRecord,
    Cause,
    CauseKind,
    DisabledTool,
    FinishedRelease,
    GroupRecord,
    InstanceRecord,
    LinkRecord,
    ReleaseRecord,
    TokenRecord,
    UserRecord,
    VariableRecord,
    VariableSource,
    environment_place,
)
from portway.host.store.store import Store, StoreError

__all__ = [
    "A_DEPLOY",
    "AppRecord",
    "Cause",
    "CauseKind",
    "DisabledTool",
    "FinishedRelease",
    "GroupRecord",
    "InstanceRecord",
    "LinkRecord",
    "ReleaseRecord",
    "Store",
    "StoreError",
    "TokenRecord",
    "UserRecord",
    "VariableRecord",
    "VariableSource",
    "environment_place",
]
