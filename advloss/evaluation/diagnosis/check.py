"""One check of a diagnosis: a figure, held to a threshold."""

from typing import NamedTuple


class Check(NamedTuple):
    """What one check found.

    Attributes:
        name: of the check.
        figure: what was measured, a share in [0, 1]; None where nothing was.
        threshold: what the figure is held to; None where there is none.
        passed: whether the figure keeps the threshold; None where the check was not run
            or does not apply.
        meaning: what a failure would mean.
        source: where the check and its threshold are from.
        least: the threshold is the least that the figure may be, not the most.
        reason: why the check was not run or does not apply; "" where it was run.
    """

    name: str
    figure: float | None
    threshold: float | None
    passed: bool | None
    meaning: str
    source: str
    least: bool = False
    reason: str = ""

    @property
    def result(self) -> str:
        """One of "pass", "FAIL" and "not run"."""
        return {True: "pass", False: "FAIL", None: "not run"}[self.passed]

    @property
    def limit(self) -> str:
        """The threshold with its direction, such as "<= 5.0 %"."""
        if self.threshold is None:
            return "-"
        return f"{'>=' if self.least else '<='} {percent(self.threshold)}"


def percent(share: float | None) -> str:
    """A share of 1 in per cent; "-" where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def at_most(
    name: str, figure: float, threshold: float, meaning: str, source: str
) -> Check:
    """A check that passes where the figure is no more than the threshold."""
    passed = bool(figure <= threshold + 1e-9)
    return Check(name, float(figure), threshold, passed, meaning, source)


def at_least(
    name: str, figure: float, threshold: float, meaning: str, source: str
) -> Check:
    """A check that passes where the figure is no less than the threshold."""
    passed = bool(figure >= threshold - 1e-9)
    return Check(name, float(figure), threshold, passed, meaning, source, True)


def not_run(name: str, reason: str, meaning: str, source: str) -> Check:
    """A check that was not run, or does not apply."""
    return Check(name, None, None, None, meaning, source, reason=reason)


def share(images: int, threshold: float) -> float:
    """A share of the images that one image alone does not exceed."""
    return max(threshold, 1 / images)
