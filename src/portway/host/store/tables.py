"""The tables of the database. A change here needs a migration beside it, and its revision as `HEAD`."""

from sqlalchemy import JSON, Column, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

HEAD = "0014"

metadata = MetaData()

apps = Table(
    "apps",
    metadata,
    Column("name", String, primary_key=True),
    Column("live", Integer),
    Column("last_release", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("sealing_keys", Text, nullable=False, server_default=""),
)

releases = Table(
    "releases",
    metadata,
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("config", JSON, nullable=False, server_default="{}"),
    Column("start", JSON, nullable=False, server_default="null"),
    Column("contract", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("files", Integer),
    Column("accepted", String, nullable=False, server_default=""),
    Column("environment", Text, nullable=False, server_default=""),
    Column("cause", String, nullable=False, server_default="deploy"),
    Column("detail", Text, nullable=False, server_default=""),
    Column("asked_by", Text, nullable=False, server_default=""),
    Column("commit", String, nullable=False, server_default=""),
)

variables = Table(
    "variables",
    metadata,
    Column("owner", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("source", String, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), nullable=False),
    Column("release", Integer, nullable=False),
    Column("token", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created", Integer, nullable=False),
    Column("expires", Integer),
    Column("former", String, nullable=False, server_default=""),
    Column("former_expires", Integer),
    UniqueConstraint("app", "name"),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("apps", JSON, nullable=False),
    Column("created", Integer, nullable=False),
    Column("expires", Integer),
    Column("former", String, nullable=False, server_default=""),
    Column("former_expires", Integer),
)

user_groups = Table(
    "user_groups",
    metadata,
    Column("issuer", String, primary_key=True),
    Column("claim", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("apps", JSON, nullable=False),
    Column("created", Integer, nullable=False),
)

domains = Table(
    "domains",
    metadata,
    Column("name", String, primary_key=True),
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), nullable=False),
)

disabled_tools = Table(
    "disabled_tools",
    metadata,
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
    Column("tool", Text, primary_key=True),
    Column("asked_by", Text, nullable=False),
    Column("since", Integer, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("app", ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("seen", String, nullable=False),
    Column("note", Text, nullable=False),
)
