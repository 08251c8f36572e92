"""What was measured, and the table of it."""

import statistics
from collections import Counter
from dataclasses import dataclass, field

Row = tuple[str, str, str]
LIMIT = "limit"
BARE_VIEW = "the bare view"


@dataclass
class Single:
    """Seconds of commands sent one after the other."""

    totals: list[float] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)


Calls = Counter[str]  # of the services


@dataclass
class Burst:
    """Many commands sent at once: seconds until all were accepted, and of each until it was completed.

    `rate` is how many were completed per second, once none was sent any more.
    """

    all_accepted: float
    rate: float
    each: list[float]
    calls: Calls


@dataclass
class SessionCheck:
    """Seconds of `GET command`, asked in turn with the session check and without it."""

    checked: list[float]
    unchecked: list[float]

    @property
    def ratio(self) -> float:
        """By the quarter of each that was disturbed least: what else runs makes requests longer, and never shorter."""
        return statistics.quantiles(self.checked)[0] / statistics.quantiles(self.unchecked)[0]


@dataclass
class ClientCost:
    """Seconds of one call of a service: by the client, and by a bare session, in turn."""

    own: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        """By the quarter of each that was disturbed least, as above."""
        return statistics.quantiles(self.own)[0] / statistics.quantiles(self.bare)[0]


@dataclass
class Balance:
    """How often each instance was called."""

    calls: list[int]

    @property
    def farthest(self) -> float:
        """How far from its fair share the instance is that is farthest from it, as a part of that share."""
        fair = sum(self.calls) / len(self.calls)
        return max(abs(calls - fair) for calls in self.calls) / fair


@dataclass
class Figures:
    """Everything of one run. Rates are per second, and one per round; times are in seconds."""

    services: list[float]
    single: Single
    bursts: list[Burst]
    bare_commands: list[tuple[float, Calls]]
    web: dict[str, list[float]]
    statements: dict[str, int]
    session_check: SessionCheck
    client: ClientCost
    balance: Balance


def print_table(figures: Figures) -> None:
    """Print Markdown, so that it can go into docs/performance.md as it is."""
    head = [("measured", "figure", "ratio")]
    rows = [*head, *web_rows(figures), *single_rows(figures), *burst_rows(figures), *socket_rows(figures.single)]
    rows += service_rows(figures.client, figures.balance)
    print_rows(rows)


def print_rows(rows: list[Row]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rows.insert(1, ("-" * widths[0], "-" * (widths[1] - 1) + ":", "-" * widths[2]))
    for what, figure, ratio in rows:
        print(f"| {what:{widths[0]}} | {figure:>{widths[1]}} | {ratio:{widths[2]}} |")


def web_rows(figures: Figures) -> list[Row]:
    bare, get, unfinished, post = (figures.web[name] for name in ("bare", "GET", "GET unfinished", "POST"))
    return [
        ("bare Django view", per_second(bare), LIMIT),
        ("`GET command`", per_second(get), share(get, bare, BARE_VIEW)),
        ("`GET command`, not finished", per_second(unfinished), share(unfinished, bare, BARE_VIEW)),
        ("`POST command`, no worker running", per_second(post), share(post, bare, BARE_VIEW)),
        ("`GET command` without the session check: p50", milliseconds(figures.session_check.unchecked, 50), LIMIT),
        (
            "`GET command` with it: p50",
            milliseconds(figures.session_check.checked, 50),
            f"{figures.session_check.ratio:.3f} × without it",
        ),
        *((f"SQL statements of a `{name}`", str(count), "") for name, count in figures.statements.items()),
    ]


def single_rows(figures: Figures) -> list[Row]:
    totals = figures.single.totals
    rate = 1 / statistics.mean(totals)
    return [
        ("the three services, asked directly: p50", milliseconds(figures.services, 50), LIMIT),
        *percentiles("one at a time, `POST` to completed", totals, figures.services, "the services"),
        ("one at a time, completed", f"{rate:.1f} /s", share_of_bare_view(rate, figures)),
    ]


def burst_rows(figures: Figures) -> list[Row]:
    bursts, bare = figures.bursts, [rate for rate, _calls in figures.bare_commands]
    at_once, rates = f"{len(bursts[0].each)} at once", [burst.rate for burst in bursts]
    accepted = statistics.median(burst.all_accepted for burst in bursts)
    return [
        ("a bare Celery task that makes a command's calls", f"{statistics.median(bare):.1f} /s", LIMIT),
        (f"{at_once}, completed", f"{statistics.median(rates):.1f} /s", share(rates, bare, "the bare task")),
        ("calls of the services for a command", *_calls_of_both(figures)),
        (f"{at_once}, first `POST` to last answer", f"{accepted:.2f} s", ""),
        *percentiles(f"{at_once}, `POST` to completed", [seconds for burst in bursts for seconds in burst.each]),
    ]


def _calls_of_both(figures: Figures) -> tuple[str, str]:
    commands = sum(len(burst.each) for burst in figures.bursts)
    own = sum(burst.calls.total() for burst in figures.bursts) / commands
    bare = sum(calls.total() for _rate, calls in figures.bare_commands) / commands
    return f"{own:.2f}", f"{bare:.2f} of the bare task"


def socket_rows(single: Single) -> list[Row]:
    return [
        ("ping on the socket: p50", milliseconds(single.pings, 50), LIMIT),
        *percentiles("event, from the database to the client", single.events, single.pings, "the ping"),
    ]


def service_rows(client: ClientCost, balance: Balance) -> list[Row]:
    return [
        ("a call of a service by a bare `requests.Session`: p50", milliseconds(client.bare, 50), LIMIT),
        ("the same by the gateway's client: p50", milliseconds(client.own, 50), f"{client.ratio:.3f} × the bare one"),
        (
            f"calls spread over {len(balance.calls)} instances by several processes",
            " + ".join(str(calls) for calls in balance.calls),
            f"within {balance.farthest:.1%} of fair",
        ),
    ]


def percentiles(what: str, seconds: list[float], limit: list[float] | None = None, of: str = "") -> list[Row]:
    """Return the rows of p50 and p95, each beside the limit's p50 if there is one."""
    return [
        (
            f"{what}: p{percent}",
            milliseconds(seconds, percent),
            f"{percentile(seconds, percent) / percentile(limit, 50):.1f} × {of}" if limit else "",
        )
        for percent in (50, 95)
    ]


def percentile(seconds: list[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100)[percent - 1]


def milliseconds(seconds: list[float], percent: int) -> str:
    return f"{1000 * percentile(seconds, percent):.1f} ms"


def per_second(rates: list[float]) -> str:
    return f"{statistics.median(rates):.0f} /s"


def share(rates: list[float], limits: list[float], of: str) -> str:
    """Return the median of the ratios, round by round: what disturbs a round disturbs both."""
    ratio = statistics.median(rate / limit for rate, limit in zip(rates, limits, strict=True))
    return f"{ratio:.3f} of {of}"


def share_of_bare_view(rate: float, figures: Figures) -> str:
    return f"{rate / statistics.median(figures.web['bare']):.4f} of {BARE_VIEW}"
