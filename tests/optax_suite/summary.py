"""Print at the end of a test run what ran of Optax's own tests."""

from collections import Counter
from typing import Any

SUITE = "tests/optax_suite/test_suite.py"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many of Optax's tests ran, passed and are excused, and why these are."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for outcome in ("passed", "xpassed", "failed", "error", "xfailed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if not str(getattr(report, "nodeid", "")).startswith(SUITE):
                continue
            counts = dict(report.user_properties).get("optax", {outcome: 1})
            outcomes.update(counts)
            if outcome == "xfailed":
                reasons[f"excused: {report.wasxfail}"] += 1
            elif outcome == "skipped":
                reasons[f"skipped by Optax: {report.longrepr[2].removeprefix('Skipped: ')}"] += 1
    outcomes["passed"] += outcomes.pop("xpassed", 0)  # Excused, and not needed here.
    if not outcomes.total():
        return
    excused, skipped = outcomes["xfailed"], outcomes["skipped"]
    terminalreporter.section("Optax's tests over momentax")
    terminalreporter.line(
        f"{outcomes.total() - skipped} ran, {outcomes['passed']} passed, {excused} are excused, "
        f"{outcomes['failed'] + outcomes['error']} failed; Optax skips {skipped}"
    )
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count:5d}  {reason}")
