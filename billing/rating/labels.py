"""Labels: what tells the usage of one series from another's besides meter and model, such as its service tier."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

# What prices and filters look at. Metering derives them when it counts an event.
SERVICE_TIER, CONTEXT_TIER, CACHE_TTL, REGION = "service_tier", "context_tier", "cache_ttl", "region"
PROJECT = "project"
PRICED_BY = (SERVICE_TIER, CONTEXT_TIER, CACHE_TTL, REGION)


class Labels(Mapping[str, str]):
    """An immutable, hashable mapping. A label without a value is no label. Made by `labels_of`."""

    __slots__ = ("_hash", "_known", "pairs")

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        self.pairs = pairs
        self._known = dict(pairs)
        self._hash = hash(pairs)

    def __getitem__(self, name: str) -> str:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Labels({self._known})"

    def only(self, names: Iterable[str]) -> "Labels":
        """Those of these names."""
        if not self.pairs:
            return self
        wanted = tuple(pair for pair in self.pairs if pair[0] in names)
        return self if len(wanted) == len(self.pairs) else _interned(wanted)


def labels_of(values: Mapping[str, str]) -> Labels:
    """The same labels are the same object, so that readings by the thousand share them."""
    if isinstance(values, Labels):
        return values
    return _interned(tuple(sorted((name, value) for name, value in values.items() if value)))


@lru_cache(maxsize=65536)
def _interned(pairs: tuple[tuple[str, str], ...]) -> Labels:
    return Labels(pairs)


NO_LABELS = labels_of({})
