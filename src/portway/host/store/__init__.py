"""The host's database, one SQLite file. Only control imports this package."""

from portway.host.store.records import AppRecord, AppSettings, InstanceRecord, ReleaseRecord, TokenRecord
from portway.host.store.store import Store, StoreError

__all__ = ["AppRecord", "AppSettings", "InstanceRecord", "ReleaseRecord", "Store", "StoreError", "TokenRecord"]
