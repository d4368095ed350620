"""Ingestion: source -> parse -> chunk -> stamp access -> keep. Vectors follow in ``embedding.py``; words are searchable at once.

Synchronising is idempotent and resumable: what to do is the difference between the source's listing and the truth, each batch is
one transaction, and a run that was killed is finished by the next one. Access is applied first and all at once; a file that can not
be read is quarantined with its reason and never stops the run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from mainstay.access.acl import PRIVATE, Acl, parse_acl
from mainstay.corpus.chunking import Chunk, chunk, chunk_id
from mainstay.corpus.parsing.document import Parsed, Quarantined
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.sandbox import Sandbox
from mainstay.corpus.ports import AccessRule, Documents, Known, Piece, Prepared
from mainstay.corpus.sources import FolderSource, Item, Listing, origin_of, resolve
from mainstay.errors import Conflict, Invalid
from mainstay.types import Clock, MetaValue

RECIPE = "1"  # raise when parsing or chunking changes what is kept: documents are then read again at the next sync
UNREADABLE = "access-unreadable"
BATCH_DOCUMENTS = 16
BATCH_CHARACTERS = 1_000_000
API_SOURCE = "api"


def recipe_of(quarantined: bool, limits: ParseLimits) -> str:
    """What a reading depends on beside the file: a verdict of "too large" holds under the limits it was given under."""
    return f"{RECIPE}/{hashlib.sha256(repr(limits).encode()).hexdigest()[:12]}" if quarantined else RECIPE


Progress = Callable[[int, int, str], None]


@dataclass(kw_only=True)
class Report:
    """What a synchronisation did. ``quarantined`` and ``problems`` say why, one line each."""

    source: str
    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    access_changed: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    read: tuple[Item, ...]
    moved: tuple[tuple[Known, Item], ...]
    gone: tuple[Known, ...]
    kept: tuple[tuple[Known, Item], ...]
    changed: tuple[tuple[Known, Item], ...]


def synchronise(
    source: FolderSource,
    documents: Documents,
    sandbox: Sandbox,
    clock: Clock,
    *,
    progress: Progress | None = None,
    delete_all: bool = False,
) -> Report:
    """Make the truth equal to the source.

    Errors: Unavailable when the source can not be listed (nothing is changed); Conflict when a source that held documents lists
    none, unless ``delete_all``: an unmounted disk looks just like that.
    """
    report = Report(source=source.name)
    listing = source.list()
    known = documents.known(source.name)
    if known and not listing.items and not listing.unread and not delete_all:
        raise Conflict(
            f"the folder is empty but {len(known)} documents are known of it",
            where=str(source.root),
            fix="mount it, or repeat with --delete-all",
        )
    plan = _plan(listing, known, sandbox.limits)
    report.problems.extend(listing.problems)
    _apply_access(plan, source.name, documents, clock, report)
    for held, item in plan.moved:
        documents.move(held.doc_id, path=item.path, uri=item.uri, rule=_rule(item, held.own_access), at=clock.now())
    report.moved = len(plan.moved)
    report.changed -= len(plan.moved)  # they are read again, and counted as moved
    report.removed = documents.remove([held.doc_id for held in plan.gone], clock.now())
    ids = _Ids(documents, source.name, known, plan)
    before = {**known, **{item.path: held for held, item in plan.moved}}
    prepared = _prepared(plan.read, source.name, ids, sandbox, before, report, progress)
    for batch in _batched(prepared):
        documents.put(batch, clock.now())
    report.unchanged = len(plan.kept)
    for held, _ in plan.kept:
        if held.quarantined:
            report.quarantined[held.path] = held.quarantined
    state = "partial" if listing.unread else "complete"
    documents.note_sync(
        source.name,
        kind=source.kind,
        root=str(source.root),
        state=state,
        detail="\n".join(report.problems),
        at=clock.now(),
        done={
            "added": report.added,
            "changed": report.changed,
            "moved": report.moved,
            "removed": report.removed,
            "access_changed": report.access_changed,
            "quarantined": len(report.quarantined),
        },
    )
    return report


def push(
    documents: Documents,
    sandbox: Sandbox,
    clock: Clock,
    *,
    external_id: str,
    content: bytes,
    name: str,
    title: str,
    uri: str,
    access: Acl | None,
    metadata: Mapping[str, MetaValue],
    modified: datetime | None,
) -> Prepared:
    """Keep one pushed document under its caller's id, replacing what that id held. Errors: Quarantined with the reason.

    The ``access`` its sender states stands above what the content says of itself; None leaves it to the content, else private.
    """
    inherited = PRIVATE if access is None else access
    item = Item(
        path=external_id,
        file=_NO_FILE,
        uri=uri or external_id,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
        modified=modified,
        inherited=AccessRule(origin=origin_of(inherited), acl=inherited),
        chain=(inherited,),
        content=content,
        title=title,
        metadata=metadata,
        own_access=access,
    )
    held = documents.known(API_SOURCE, external_id).get(external_id)
    ids = _Ids(documents, API_SOURCE, {external_id: held} if held else {}, None)
    prepared = _prepare(item, sandbox.parse(content, name), API_SOURCE, ids.of(external_id), ids)
    documents.put([prepared], clock.now())
    return prepared


_NO_FILE: Any = None


def _plan(listing: Listing, known: Mapping[str, Known], limits: ParseLimits) -> _Plan:
    listed = {item.path: item for item in listing.items}
    gone = [held for path, held in sorted(known.items()) if path not in listed and not _under(path, listing.unread)]
    new = [item for item in listing.items if item.path not in known]
    kept: list[tuple[Known, Item]] = []
    changed: list[tuple[Known, Item]] = []
    for path, held in sorted(known.items()):
        item = listed.get(path)
        if item is not None:
            same = held.raw_digest == item.digest and held.recipe == recipe_of(held.quarantined != "", limits)
            (kept if same else changed).append((held, item))
    moved = _moved(new, [*gone, *(held for held, _ in changed)])
    gone_on = {held.doc_id for held, _ in moved}
    # What moved is read again as well: its name and folder are part of what is found, and its ending of how it is read.
    return _Plan(
        read=tuple(sorted([*new, *(item for _, item in changed)], key=lambda item: item.path)),
        moved=tuple(moved),
        gone=tuple(held for held in gone if held.doc_id not in gone_on),
        kept=tuple(kept),
        changed=tuple((held, item) for held, item in changed if held.doc_id not in gone_on),
    )


def _moved(new: Sequence[Item], left: Sequence[Known]) -> list[tuple[Known, Item]]:
    """New paths that hold what stood at a path that is gone, or that holds something else now: the document moved."""
    by_digest: dict[str, list[Known]] = {}
    for held in reversed(left):
        if held.recipe.partition("/")[0] == RECIPE:
            by_digest.setdefault(held.raw_digest, []).append(held)
    return [(by_digest[item.digest].pop(), item) for item in new if by_digest.get(item.digest)]


def _under(path: str, unread: Sequence[str]) -> bool:
    return any(path == name or path.startswith(name if name.endswith("/") else f"{name}#") for name in unread)


def _apply_access(plan: _Plan, source: str, documents: Documents, clock: Clock, report: Report) -> None:
    # Documents about to be read again are stamped as well, with the rule they last stated: a folder that was closed is closed now,
    # not when the last of its files has been parsed.
    rules = {held.path: _rule(item, held.own_access) for held, item in (*plan.kept, *plan.changed)}
    documents.apply_access(source, rules, clock.now())
    stamped = ((held, rules[held.path]) for held, _ in (*plan.kept, *plan.changed))
    report.access_changed = sum(held.acl != rule.acl for held, rule in stamped)


def _rule(item: Item, own: Acl | None) -> AccessRule:
    if own is None:
        return item.inherited
    acl = resolve((*item.chain, own))
    return AccessRule(origin=origin_of(acl), acl=acl)


class _Ids:
    """Stable document ids: derived from the source and the path a document was first seen at, unguessable by the salt."""

    def __init__(self, documents: Documents, source: str, known: Mapping[str, Known], plan: _Plan | None) -> None:
        self._documents, self._source = documents, source
        self._held = {path: held.doc_id for path, held in known.items()}
        self._salt = documents.salt()
        if plan is not None:
            for held, _ in plan.moved:
                self._held.pop(held.path, None)
            for held, item in plan.moved:
                self._held[item.path] = held.doc_id
            for held in plan.gone:
                self._held.pop(held.path, None)

    def of(self, path: str) -> str:
        if path in self._held:
            return self._held[path]
        for attempt in range(1000):
            mac = hmac.new(self._salt, f"{self._source}\0{path}\0{attempt}".encode(), hashlib.sha256).digest()
            doc_id = "doc_" + base64.b32encode(mac[:15]).decode().lower()
            if not self._documents.taken_ids([doc_id]):
                return doc_id
            if (meanwhile := self._documents.known(self._source, path).get(path)) is not None:
                return meanwhile.doc_id  # two pushed the same new path at once, and the other was faster
        raise Conflict("no free document id", where=path)

    def version(self, text: str) -> str:
        """The name of a text: equal for equal texts here, and of no use for guessing one."""
        return hmac.new(self._salt, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]


def _prepared(
    items: Sequence[Item],
    source: str,
    ids: _Ids,
    sandbox: Sandbox,
    known: Mapping[str, Known],
    report: Report,
    progress: Progress | None,
) -> Iterator[Prepared]:
    for n, item in enumerate(items):
        if progress:
            progress(n, len(items), item.path)
        doc_id = ids.of(item.path)
        try:
            parsed = sandbox.parse(item.content if item.content is not None else item.file, _file_name(item))
            prepared = _prepare(item, parsed, source, doc_id, ids)
            report.problems.extend(
                f"{item.path}: {kind}: {detail}; private until it is mended"
                for kind, detail in prepared.findings
                if kind == UNREADABLE
            )
        except Quarantined as reason:
            report.quarantined[item.path] = reason.what
            held = known.get(item.path)
            own = held.own_access if held else None
            prepared = _quarantined(item, source, doc_id, reason.what, own, recipe_of(True, sandbox.limits))
        if item.path in known:
            report.changed += 1
        else:
            report.added += 1
        yield prepared
    if progress:
        progress(len(items), len(items), "")


def _file_name(item: Item) -> str:
    return "record.json" if item.content is not None else PurePosixPath(item.path).name


def _prepare(item: Item, parsed: Parsed, source: str, doc_id: str, ids: _Ids) -> Prepared:
    findings = [(finding.kind, finding.detail) for finding in parsed.findings]
    findings += [("hidden-text", f"{hidden.kind} x{hidden.count}: {hidden.sample}") for hidden in parsed.hidden]
    own, problem = _own_access(item, parsed)
    if problem:
        findings.append((UNREADABLE, problem))
    metadata = {**parsed.metadata, **{key: typed(value) for key, value in item.metadata.items()}}
    metadata["source"] = source
    folders = PurePosixPath(item.path.partition("#")[0]).parts[:-1]
    if folders and "department" not in metadata:
        metadata["folder"] = folders[0]
    title = item.title or parsed.title or PurePosixPath(item.path).stem
    version = ids.version(parsed.text)
    day = next((metadata[key] for key in ("date", "effective", "updated") if isinstance(metadata.get(key), date)), None)
    if isinstance(day, date):
        metadata.setdefault("year", day.year)
    pieces = chunk(parsed, title=title, date=day if isinstance(day, date) else None)
    return Prepared(
        doc_id=doc_id,
        source=source,
        path=item.path,
        uri=item.uri,
        title=title[:500],
        media_type=parsed.media_type,
        version=version,
        raw_digest=item.digest,
        rule=_rule(item, own),
        own_access=own,
        metadata=metadata,
        language=parsed.language,
        modified=item.modified,
        size=item.size,
        recipe=RECIPE,
        text=parsed.text,
        pages=parsed.pages,
        pieces=tuple(_piece(doc_id, version, parsed.text, piece) for piece in pieces),
        findings=tuple(findings),
    )


def _own_access(item: Item, parsed: Parsed) -> tuple[Acl | None, str]:
    if item.own_access is not None:
        return item.own_access, ""
    if "access" not in parsed.front_matter:
        return None, ""
    try:
        return parse_acl(parsed.front_matter["access"], item.path), ""
    except Invalid as error:
        return Acl((), ("public",)), f"{error.line()}: private until it is mended"


def _piece(doc_id: str, version: str, text: str, cut: Chunk) -> Piece:
    return Piece(
        chunk_id=chunk_id(doc_id, version, cut.start, cut.end),
        start=cut.start,
        end=cut.end,
        page=cut.page_from,
        heading_path=cut.heading_path,
        section_start=cut.section_start,
        section_end=cut.section_end,
        prefix=cut.prefix,
        text=text[cut.start : cut.end],
    )


def _quarantined(item: Item, source: str, doc_id: str, reason: str, own: Acl | None, recipe: str) -> Prepared:
    return Prepared(
        doc_id=doc_id,
        source=source,
        path=item.path,
        uri=item.uri,
        title=PurePosixPath(item.path).name,
        media_type="",
        version="",
        raw_digest=item.digest,
        rule=_rule(item, own),
        own_access=own,
        metadata={"source": source},
        language="",
        modified=item.modified,
        size=item.size,
        recipe=recipe,
        quarantined=reason,
    )


def _batched(documents: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH_DOCUMENTS or sum(len(held.text) for held in batch) > BATCH_CHARACTERS:
            yield batch
            batch = []
    if batch:
        yield batch


_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ].*)?")


def typed(value: object) -> MetaValue:
    """A loose value as typed metadata: ISO dates become dates, lists become tuples, anything else text."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, list | tuple):
        return tuple(scalar for item in value for scalar in [typed(item)] if not isinstance(scalar, tuple))
    text = str(value)[:1000]
    if _ISO_DATE.fullmatch(text):
        try:
            return date.fromisoformat(text[:10])
        except ValueError:
            return text
    return text
