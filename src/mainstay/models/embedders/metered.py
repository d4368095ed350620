"""An embedder that is paid for: money is held before each call and settled after it, like that of any other model.

What a question's own embedding costs is paid by its request, as long as ``paying`` says so; everything else (documents
being made searchable) is paid by the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainstay.agreement.ledger import Purse, Spent
from mainstay.errors import Unavailable
from mainstay.models.embedders import Embedder, EmbedderIdentity
from mainstay.models.prices import Price, token_bound
from mainstay.types import Usage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PAYS: ContextVar[Purse | None] = ContextVar("pays", default=None)


@contextmanager
def paying(purse: Purse) -> Iterator[None]:
    """Inside, questions are embedded at the expense of this request."""
    token = _PAYS.set(purse)
    try:
        yield
    finally:
        _PAYS.reset(token)


@dataclass(frozen=True)
class MeteredEmbedder:
    """``embedder`` at a price. ``service`` gives a purse for what no request pays for."""

    embedder: Embedder
    price: Price
    service: Callable[[], Purse]

    @property
    def identity(self) -> EmbedderIdentity:
        return self.embedder.identity

    @property
    def weight(self) -> float:
        return self.embedder.weight

    @property
    def related(self) -> float:
        return self.embedder.related

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Errors: Spent when a budget of the service does not pay for them; what the embedder raises."""
        with self._paid(self.service(), texts):
            return self.embedder.embed_passages(texts)

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """Errors: Unavailable when the request can not pay for it: words alone must do then."""
        try:
            with self._paid(_PAYS.get() or self.service(), [text]):
                return self.embedder.embed_query(text)
        except Spent as error:
            raise Unavailable(
                f"the question was not embedded: {error.what}", where=error.where, fix=error.fix
            ) from None

    @contextmanager
    def _paid(self, purse: Purse, texts: Sequence[str]) -> Iterator[None]:
        """The provider's count is not told per text, so the most that it can be is booked, and marked as an estimate."""
        usage = Usage(input_tokens=token_bound(texts))
        cost = self.price.cost(usage)
        hold = purse.hold(cost, cost, "embed", self.identity.name, self.price.version)
        paid = cost
        try:
            yield
        except Exception as error:
            paid = cost if getattr(error, "maybe_paid", True) else 0
            raise
        finally:
            if paid:
                purse.settle(hold, actual_n=paid, usage=usage, estimated=True)
            else:
                purse.cancel(hold)
