"""Answers that serve again, and identical questions in the air. Start in ``cache.py``; ``ports.py`` says what is kept."""

from mainstay.models.cache.answers import read_set, same_answer
from mainstay.models.cache.cache import Candidate, Counts, Hit, Miss, SemanticCache
from mainstay.models.cache.flight import Flights, Follower, Landed, Leader, flight_key
from mainstay.models.cache.ports import Asked, CachedAnswer, CacheStore, Partition, Source, Wording

__all__ = [
    "Asked",
    "CacheStore",
    "CachedAnswer",
    "Candidate",
    "Counts",
    "Flights",
    "Follower",
    "Hit",
    "Landed",
    "Leader",
    "Miss",
    "Partition",
    "SemanticCache",
    "Source",
    "Wording",
    "flight_key",
    "read_set",
    "same_answer",
]
