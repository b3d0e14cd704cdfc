"""The routing table in use: which app, caller and instance a request gets, and what a new table changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from portway.auth.caller_header import relayed
from portway.auth.principal import Principal
from portway.auth.tokens import digest
from portway.host.gate.callers import NOBODY, Callers
from portway.host.gate.routing import Backend, Routes
from portway.host.routing_table import App, InstanceAddress, Table
from portway.host.token_table import Token, TokenChange

if TYPE_CHECKING:
    from collections.abc import Callable


def app(name: str, *instances: str, access: str = "gate", hosts: tuple[str, ...] = ()) -> App:
    given = [InstanceAddress(each, f"unix:/{each}") for each in instances]
    return App(name, 1, access, "up", given, list(hosts))  # type: ignore[arg-type]


def routes_of(*apps: App, domain: str = "Example.com", version: int = 1) -> Routes:
    routes = Routes()
    routes.replace(Table(version, domain, {each.name: each for each in apps}))
    return routes


def test_an_app_is_found_by_its_names_in_any_case_with_or_without_a_port() -> None:
    routes = routes_of(app("Ab", hosts=("Own.example.org", "own2")), app("c"))
    ab, c = routes.apps["Ab"], routes.apps["c"]
    for host, found in (
        (b"ab.example.com", (True, ab)),
        (b"AB.Example.Com.:8080", (True, ab)),
        (b"own.EXAMPLE.org", (True, ab)),
        (b"c.example.com:1", (True, c)),
        (b"own2", (True, ab)),
        (b"own2:2", (True, ab)),
        (b"none.example.com", (True, None)),
        (b"example.com:80", (False, None)),
        (b"xexample.com", (False, None)),
        (b"[::1]", (False, None)),
        (b"[::1]:80", (False, None)),
        (b"127.0.0.1", (False, None)),
    ):
        assert [routes.by_host(host) for _ in range(2)] == [found] * 2, host  # found, then remembered
        assert routes.hosts[host] == found
    for number in range(2000):
        routes.by_host(b"h%d.example.com" % number)
    assert len(routes.hosts) == 1024
    for path, route in (("/Ab/mcp", ab), ("/Ab/mcp/", ab), ("/ab/mcp", None), ("/Ab", None), ("/c/mcp", c)):
        assert routes.paths.get(path) is route
    for host, status in (("example.com", None), ("X.example.com", None), ("own.example.org", None), ("b.org", 421)):
        refusal = routes.guard.check({"path": "/", "headers": [(b"host", host.encode())]})
        assert (refusal.status if refusal else None) == status
    routes.replace(Table(2, "example.com", {"c": app("c")}))
    assert (routes.by_host(b"ab.example.com"), routes.paths.get("/Ab/mcp")) == ((True, None), None)


@pytest.mark.parametrize(
    ("host", "path", "origin", "status"),
    [
        ("example.com", "/a/mcp", "https://page.example", None),
        ("a.example.com", "/any", "https://page.example", None),
        ("example.com", "/p/mcp", "https://page.example", 403),
        ("p.example.com", "/a/mcp", "https://page.example", 403),
        ("example.com", "/none", "https://page.example", 403),
        ("none.example.com", "/a/mcp", "https://page.example", 403),
        ("example.com", "/a/mcp", "http://localhost:1", None),
        ("example.com", "/p/mcp", "http://localhost:1", 403),
        ("b.org", "/a/mcp", "https://page.example", 421),
        ("example.com", "/p/mcp", None, None),
    ],
)
def test_a_page_may_call_the_apps_that_name_it_and_a_local_one_those_that_ask_for_tokens(
    host: str, path: str, origin: str | None, status: int | None
) -> None:
    named = App("a", 1, origins=["none", "https://page.example"])  # an older host has taken any text
    routes = routes_of(named, app("p", access="public"))
    fields = {b"host": host.encode()} | ({b"origin": origin.encode()} if origin else {})
    scope = {"path": path, "raw_path": path.encode()}
    guard = routes.guard_of(scope, fields)
    refusal = guard.check({"path": path, "headers": list(fields.items())})
    assert (refusal.status if refusal else None) == status
    assert (guard is routes.guard) is (origin is None or "none" in host + path)
    assert routes.apps["a"].cors.allows(b"https://page.example")
    assert routes.guard_of(scope, {}) is routes.guard


def test_a_token_is_good_for_its_app_and_a_public_app_admits_everyone() -> None:
    routes = routes_of(app("a"), app("p", access="public"))
    a, p = routes.apps["a"], routes.apps["p"]
    routes.callers.replace(
        {digest(token): Token(digest(token), name, token, 1, ["s"]) for token, name in (("one", "a"), ("two", "p"))}
    )
    for _ in range(2):  # looked up, then remembered
        alice = routes.caller(a, b"Bearer one", a.access)
        assert alice is not None
        assert (alice.app, alice.name) == ("a", "one")
        assert [routes.caller(a, each, a.access) for each in (b"Bearer two", b"Bearer no", b"one", None)] == [None] * 4
        assert [routes.caller(p, each, p.access) for each in (b"Bearer one", b"Bearer no", b"", None)] == [NOBODY] * 4
        assert routes.caller(None, b"Bearer one", "gate") is None
        bob = routes.caller(p, b"bearer  two", p.access)
        assert bob is not None
        assert bob.name == "two"
    assert (a.objection(alice), p.objection(NOBODY)) == (None, None)
    routes.replace(Table(2, "example.com", {"p": app("p")}))
    for route, caller, said in ((p, NOBODY, "only callers with a token now"), (a, alice, "has been removed")):
        objection = route.objection(caller)
        assert objection is not None
        assert (objection.status, said in objection.message) == (401, True)
    assert p.objection(bob) is None
    routes.callers.replace({})
    assert p.objection(bob) is bob.revoked is not None
    assert routes.caller(p, None, p.access) is None


def ids(backends: list[Backend]) -> list[str]:
    return [backend.instance.id for backend in backends]


def test_an_instance_that_is_busy_or_unchanged_is_kept_by_a_new_table() -> None:
    routes = routes_of(app("a", "i0", "i1"), app("b", "i2"))
    a, (i0, i1) = routes.apps["a"], routes.apps["a"].backends
    i0.in_flight = 1
    waits = a.changed
    routes.replace(Table(2, "example.com", {"a": app("a", "i1", "i3")}))
    assert routes.apps == {"a": a}
    assert (ids(a.backends), a.backends[0] is i1, waits.is_set(), a.changed.is_set()) == (
        ["i1", "i3"],
        True,
        True,
        False,
    )
    assert a.instances == {"i0": i0, "i1": i1, "i3": a.backends[1]}, "i0 drains, and answers for its own calls"
    assert routes.backends.keys() == {"i0", "i1", "i3"}
    i0.in_flight = 0
    moved = App("a", 2, "gate", "crashed", [InstanceAddress("i1", "unix:/elsewhere")])
    routes.replace(Table(3, "example.com", {"a": moved}))
    assert (a.release, a.state, a.instances.keys(), routes.version) == (2, "crashed", {"i1"}, 3)
    assert a.backends[0].instance.address == "unix:/elsewhere"
    waits = a.changed
    routes.replace(Table(4))
    assert (waits.is_set(), a.state, a.backends, routes.apps) == (True, "removed", [], {})


def test_a_call_goes_to_the_least_busy_instance_and_a_session_to_its_own_or_always_the_same() -> None:
    route = routes_of(app("a", "i0", "i1", "i2")).apps["a"]
    i0, i1, i2 = route.backends
    i0.in_flight, i1.in_flight, i2.in_flight = 2, 1, 3
    assert [route.pick(tried) for tried in ([], [i1], [i1, i0], [i0, i1, i2])] == [i1, i0, i2, None]
    for token in (b"a", b"b", b"c", b"d"):
        assert [route.instance_for(each, token) for each in ("i0", "i1", "i2")] == [i0, i1, i2]
    homes = {token: route.instance_for("gone", token) for token in (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h")}
    assert set(homes.values()) == {i0, i1, i2}
    assert {token: route.instance_for("gone", token) for token in homes} == homes
    alone = routes_of(app("a", "i0")).apps["a"]
    assert [alone.pick(tried) for tried in ([], alone.backends)] == [alone.backends[0], None]
    none = routes_of(app("a")).apps["a"]
    assert (none.pick([]), none.instance_for("i0", b"")) == (None, None)


def test_a_table_is_complete_once_apps_and_tokens_have_been_read() -> None:
    routes = Routes()
    assert (routes.version, routes.complete) == (-1, False)
    routes.replace(Table(0))
    assert not routes.complete
    routes.callers.replace({})
    assert routes.complete
    early = Routes()
    early.callers.replace({})
    assert not early.complete


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda callers: callers.change([TokenChange(drop=digest("t"))]), 401),
        (lambda callers: callers.replace({}), 401),
        (lambda callers: callers.change([TokenChange(drop="another")]), None),
        (lambda callers: callers.change([TokenChange(add=token("a", "ada", "r", "w", "x"))]), None),
        (lambda callers: callers.replace({digest("t"): token("a", "ada", "w", "r")}), None),
        (lambda callers: callers.change([TokenChange(add=token("a", "ada", "r", "x"))]), 403),
        (lambda callers: callers.replace({digest("t"): token("a", "bob", "r", "w")}), 401),
        (lambda callers: callers.replace({digest("t"): token("b", "ada", "r", "w")}), 401),
    ],
)
def test_a_caller_is_told_when_its_token_may_do_less(change: Callable[[Callers], None], status: int | None) -> None:
    callers = Callers()
    callers.replace({digest("t"): token("a", "ada", "r", "w")})
    caller = callers.find(b"Bearer t")
    assert caller is not None
    assert caller.revoked is None
    change(callers)
    assert (caller.revoked.status if caller.revoked else None) == status
    assert callers.revoked == (status is not None)
    assert all(each.revoked is None for each in callers.by_header.values())
    again = callers.find(b"Bearer t")
    assert again is None or again.revoked is None


def token(app_name: str, name: str, *scopes: str) -> Token:
    return Token(digest("t"), app_name, name, 1, list(scopes))


def test_a_token_that_is_added_is_good_at_once_and_a_changed_one_as_changed() -> None:
    callers = Callers()
    callers.change([TokenChange(add=token("a", "ada", "r"))])
    first = callers.find(b"Bearer t")
    callers.change([TokenChange(add=token("a", "ada", "r", "w")), TokenChange(drop="unknown")])
    second = callers.find(b"Bearer t")
    callers.change([TokenChange(add=token("b", "bob"))])
    third = callers.find(b"Bearer t")
    principals = [each and relayed(each.header[1]) for each in (first, second, third)]
    assert principals == [
        Principal("portway", "ada", "ada", frozenset("r")),
        Principal("portway", "ada", "ada", frozenset("rw")),
        Principal("portway", "bob", "bob"),
    ]
    assert third is not None
    assert (third.app, third.name, third.identity) == ("b", "bob", "portway\0bob")


def test_a_token_that_ends_sooner_than_before_is_of_the_same_caller_who_is_named_with_the_new_end() -> None:
    callers = Callers()
    callers.replace({digest("t"): token("a", "ada", "r")})
    caller = callers.find(b"Bearer t")
    callers.change([TokenChange(add=msgspec.structs.replace(token("a", "ada", "r"), expires=2_000_000_000))])
    assert caller is not None
    assert callers.find(b"Bearer t") is caller
    assert relayed(caller.header[1]) == Principal("portway", "ada", "ada", frozenset("r"), expires=2_000_000_000)


def test_the_authorization_values_that_are_remembered_are_bounded() -> None:
    callers = Callers()
    callers.replace({digest("t"): token("a", "ada")})
    for number in range(2000):
        assert callers.find(b"Bearer %d" % number) is None
    assert not callers.by_header, "made-up tokens take no room"
    for spaces in range(2000):
        assert callers.find(b"Bearer " + b" " * spaces + b"t") is not None
    assert len(callers.by_header) == 1024
