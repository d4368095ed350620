"""Reading one file in this process: what is it, then read it. Only the sandbox's child should call this."""

from __future__ import annotations

from pathlib import PurePath

from mainstay.corpus.parsing.detect import detect
from mainstay.corpus.parsing.document import Parsed, Quarantined
from mainstay.corpus.parsing.draft import Draft
from mainstay.corpus.parsing.formats import reader_of
from mainstay.corpus.parsing.limits import ParseLimits


def read_document(data: bytes, name: str, limits: ParseLimits) -> Parsed:
    """The document in ``data``; its language only where the file declares one.

    Raises Quarantined for what cannot or must not be read.
    """
    if len(data) > limits.max_bytes:
        raise Quarantined(f"larger than {limits.max_bytes} bytes", where=name)
    if not data.strip():
        raise Quarantined("the file is empty", where=name)
    found = detect(data, name)
    draft = Draft(found.media_type, limits)
    if found.promised:
        draft.find("wrong-extension", f"{PurePath(name).suffix} holds {found.media_type}")
    _read(data, draft)
    return draft.finish(PurePath(name).stem)


def _read(data: bytes, draft: Draft) -> None:
    """Run the reader; whatever a parser library throws at a hostile file becomes a reason."""
    try:
        reader_of(draft.media_type)(data, draft)
    except (Quarantined, MemoryError):
        raise
    except RecursionError as error:
        raise Quarantined("nested too deep") from error
    except Exception as error:
        raise Quarantined(f"the parser failed: {type(error).__name__}: {error}"[:300]) from error
