"""The embedded search kernel: arrays derived from the truth, searched exactly and permission first.

``analyzer`` text to terms; ``changes`` what can happen; ``segment`` words, ``vectors`` and ``metadata`` as immutable
arrays; ``part`` what may change beside them; ``search`` the questions, with the rule that nothing forbidden has an
influence; ``files`` how it is kept; ``index`` one writer and many readers over it all.
"""

from mainstay.corpus.index.changes import Change, PutDocument, RemoveDocument, Row, SetClass, SetVectors
from mainstay.corpus.index.index import SearchIndex
from mainstay.corpus.index.search import NOTHING, Hits, Permitted

__all__ = [
    "NOTHING",
    "Change",
    "Hits",
    "Permitted",
    "PutDocument",
    "RemoveDocument",
    "Row",
    "SearchIndex",
    "SetClass",
    "SetVectors",
]
