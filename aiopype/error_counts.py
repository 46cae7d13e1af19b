"""How often a component had which error, with a bound on how many classes there are."""

from __future__ import annotations

from collections import Counter, defaultdict

__all__ = ["CLASSES", "OTHER", "ErrorCounts"]

#: Most classes of one component that are told apart: some libraries make them as they go, and each
#: is a time series for ever.
CLASSES = 50

#: What errors of further classes count as.
OTHER = "other"


class ErrorCounts:
    """Errors by component and class; used on the worker's event loop only.

    Attributes:
        by_component: of each component's full name, how many of each class's name.
    """

    def __init__(self) -> None:
        self.by_component: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, component: str, error: BaseException) -> None:
        """Count an error of a component, by the full name of that."""
        counts = self.by_component[component]
        name = type(error).__name__
        counts[name if name in counts or len(counts) < CLASSES else OTHER] += 1
