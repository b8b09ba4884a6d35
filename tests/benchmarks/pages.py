"""Times the pages of a running copy, as one visitor after another sees them: server time with the way over loopback.

    python tests/benchmarks/pages.py http://127.0.0.1:8000 --login olivia@northwind.example:kilotoken-demo

Signs in with each login, goes to its organisation and looks at every page of the menu and at the newest invoice. The
answer's body is read whole and nothing else is fetched. Prints the median, the 95th percentile and the size per page.
"""

import argparse
import http.client
import re
import statistics
import sys
import time
import urllib.parse
from http.cookies import SimpleCookie

PUBLIC = ["/", "/pricing/", "/accounts/login/", "/accounts/signup/"]
PORTAL = [
    "",
    "usage/",
    "usage/?group=api_key&range=30d",
    "usage/?group=model&granularity=hour&range=7d",
    "usage.csv",
    "bill/",
    "invoices/",
    "keys/",
    "projects/",
    "members/",
    "plan/",
    "access-tokens/",
    "audit/",
    "settings/",
]
ADMIN = [
    "/admin/",
    "/admin/accounts/organisation/",
    "/admin/billing/subscription/",
    "/admin/billing/invoice/",
    "/admin/metering/ingestbatch/",
]


class Visitor:
    """A browser that keeps cookies and one connection, and nothing else."""

    def __init__(self, base: str) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=60)
        self._cookies: dict[str, str] = {}

    def request(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str, bytes]:
        """(status, where it leads, body)."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, urllib.parse.urlencode(form) if form else None, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        for line in answer.headers.get_all("Set-Cookie") or []:
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer.status, answer.headers.get("Location", ""), body

    def sign_in(self, email: str, password: str) -> None:
        self.request("GET", "/accounts/login/")
        form = {"login": email, "password": password, "csrfmiddlewaretoken": self._cookies["csrftoken"]}
        status, _, _ = self.request("POST", "/accounts/login/", form)
        if status != 302:
            sys.exit(f"{email} could not sign in.")

    def home(self) -> str:
        """Where the home page leads."""
        _, location, _ = self.request("GET", "/home/")
        return location


def measure(visitor: Visitor, path: str, times: int) -> tuple[int, list[float], int]:
    """(status, milliseconds of each request but the first, bytes)."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        status, _, body = visitor.request("GET", path)
        taken.append((time.perf_counter() - start) * 1000)
    return status, taken[1:], len(body)


def pages_of(visitor: Visitor) -> list[str]:
    home = visitor.home()
    if not home.startswith("/o/"):
        return ADMIN
    _, _, listed = visitor.request("GET", f"{home}invoices/")
    newest = re.search(rb'href="(/o/[^"]+/invoices/[^"/]+/)"', listed)
    return [home + page for page in PORTAL] + ([newest.group(1).decode()] if newest else [])


def report(who: str, visitor: Visitor, paths: list[str], times: int) -> float:
    """Prints a table; the slowest median."""
    slowest = 0.0
    tell(f"\n{who}\n{'page':<58}{'status':>7}{'p50 ms':>9}{'p95 ms':>9}{'KiB':>8}")
    for path in paths:
        status, taken, size = measure(visitor, path, times)
        median, late = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
        slowest = max(slowest, median)
        tell(f"{path:<58}{status:>7}{median:>9.1f}{late:>9.1f}{size / 1024:>8.1f}")
    return slowest


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="Address of the running copy.")
    parser.add_argument("--login", action="append", default=[], metavar="EMAIL:PASSWORD")
    parser.add_argument("--times", type=int, default=20, help="Requests per page (20).")
    options = parser.parse_args()
    slowest = report("Anybody", Visitor(options.base), PUBLIC, options.times)
    for login in options.login:
        email, _, password = login.partition(":")
        visitor = Visitor(options.base)
        visitor.sign_in(email, password)
        slowest = max(slowest, report(email, visitor, pages_of(visitor), options.times))
    tell(f"\nSlowest median: {slowest:.1f} ms")


if __name__ == "__main__":
    main()
