"""The gate's counters: calls, errors, durations and checks of access tokens, and their export to Prometheus."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from portway.host.gate.call_record import CallRecord

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
_SERIES_PER_APP = 300  # clients can send any number of names
_MOST_ISSUERS = 100
_OTHER = "(other)"


class _Series:
    __slots__ = ("buckets", "calls", "errors", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(_BOUNDS) + 1)


class Metrics:
    """Calls, errors and durations by app, method and name (of a tool, prompt or resource)."""

    def __init__(self, record: CallRecord) -> None:
        self._record = record
        self.refused = 0  # requests without a valid token; not per app, since the app may not exist
        self._apps: dict[str, dict[tuple[str, str], _Series]] = {}
        self._logins: dict[str, Counter[str]] = {}  # by issuer, outcomes of checks

    def observe(self, app: str, method: str, name: str, seconds: float, *, failed: bool) -> None:
        of_app = self._apps.get(app)
        if of_app is None:
            of_app = self._apps[app] = {}
        series = of_app.get((method, name))
        if series is None:
            key = (method, name) if len(of_app) < _SERIES_PER_APP else (_OTHER, _OTHER)
            series = of_app.setdefault(key, _Series())
        series.calls += 1
        series.errors += failed
        series.seconds += seconds
        series.buckets[bisect_left(_BOUNDS, seconds)] += 1

    def observe_login(self, issuer: str, outcome: str) -> None:
        """Count the check of an access token. `issuer` is one that an app trusts, or ""."""
        if issuer not in self._logins and len(self._logins) >= _MOST_ISSUERS:
            issuer = _OTHER
        self._logins.setdefault(issuer, Counter())[outcome] += 1

    def totals(self, app: str) -> tuple[int, int]:
        """Return the numbers of calls and errors of an app since this gate started."""
        series = self._apps.get(app, {}).values()
        return sum(each.calls for each in series), sum(each.errors for each in series)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format. It may run on another thread, while calls are counted."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> "Iterator[Metric]":
        """Yield the metric families: the interface of a prometheus_client collector."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        labels = ["app", "method", "name"]
        errors = CounterMetricFamily("portway_gate_errors", "Calls that failed or were refused.", labels=labels)
        seconds = HistogramMetricFamily("portway_gate_call_seconds", "Time from request to reply.", labels=labels)
        for app, of_app in list(self._apps.items()):
            for (method, name), series in list(of_app.items()):
                errors.add_metric([app, method, name], series.errors)
                buckets, running = [], 0
                for bound, count in zip((*map(str, _BOUNDS), "+Inf"), series.buckets, strict=True):
                    running += count
                    buckets.append((bound, float(running)))
                seconds.add_metric([app, method, name], buckets, series.seconds)
        yield errors
        yield seconds
        text = "Checks of access tokens: of a JWT that is good, one; of an opaque token, one a request."
        logins = CounterMetricFamily("portway_gate_access_tokens", text, labels=["issuer", "outcome"])
        for issuer, outcomes in list(self._logins.items()):
            for outcome, count in list(outcomes.items()):
                logins.add_metric([issuer, outcome], count)
        yield logins
        yield CounterMetricFamily("portway_gate_unauthorized", "Requests refused for their token.", value=self.refused)
        yield CounterMetricFamily(
            "portway_gate_calls_dropped",
            "Lines of the call record that are kept no longer.",
            value=self._record.dropped,
        )
