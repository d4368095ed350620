"""Today's schema, written once for every database. Migrations lead to it; a test proves that their sum equals it.

Conventions: times are ``BIGINT`` microseconds since 1970 UTC; lists and maps are JSON text with sorted keys; ids and times are
made by rooms. ``seq``, ``number`` and ``n`` come from counters that only grow, taken by the writer inside the
transaction that uses them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
)

from mainstay.storage.redacted import Redacted, RedactedJson

metadata = MetaData()

# Small facts about this database: the salt of its document ids, the embedder in force.
fact = Table("fact", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

# -- who asks ----------------------------------------------------------------------------------------------------------
principal = Table(
    "principal",
    metadata,
    Column("name", Text, primary_key=True),  # user:alice, group:finance, service:crm
    Column("display", Text, nullable=False, default=""),
    Column("email", Text, nullable=False, default=""),
    Column("password_hash", Text, nullable=False, default=""),
    Column("admin", Integer, nullable=False, default=0),
    Column("role", Text, nullable=False, default="asker"),  # of whoever is no administrator
    Column("disabled", Integer, nullable=False, default=0),
    Column("created", BigInteger, nullable=False),
)
# One row says: `member` (a user or a group) belongs to `principal` (a group). Revoking a membership is deleting a row.
membership = Table(
    "membership",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("member", Text, primary_key=True),
    Column("source", Text, primary_key=True),  # local, or the identity provider or directory that said so
    Column("since", BigInteger, nullable=False),
    Index("membership_by_member", "member"),
)
api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    Column("last_used", BigInteger),
)

# -- what they may see -------------------------------------------------------------------------------------------------
# A class is where an access rule is stated (a folder, a document, a source): changing the rule changes this one row.
acl_class = Table(
    "acl_class",
    metadata,
    Column("class_id", Integer, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False, unique=True),
    Column("allow", Text, nullable=False),
    Column("deny", Text, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("acl_class_by_updated", "updated"),
)
# The same rules, a row per principal: what the database itself asks when it is to decide (row-level security).
acl_grant = Table(
    "acl_grant",
    metadata,
    Column("class_id", Integer, ForeignKey("acl_class.class_id", ondelete="CASCADE"), primary_key=True),
    Column("principal", Text, primary_key=True),
    Column("denies", Integer, primary_key=True),
    Index("acl_grant_by_principal", "principal", "denies", "class_id"),
)

# -- documents ---------------------------------------------------------------------------------------------------------
source = Table(
    "source",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Redacted(), nullable=False, default=""),
    Column("synced_at", BigInteger),
)
document = Table(
    "document",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("doc_id", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("raw_digest", Text, nullable=False),
    Column("class_id", Integer, ForeignKey("acl_class.class_id"), nullable=False),
    Column("own_access", Text, nullable=False, default=""),  # the rule the document itself states, if any
    Column("metadata", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("modified", BigInteger),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("status", Text, nullable=False),  # ready, quarantined
    Column("reason", Text, nullable=False, default=""),
    Column("findings", Text, nullable=False),
    Column("recipe", Text, nullable=False, default=""),  # what parsed and chunked it: a newer recipe parses it again
    UniqueConstraint("source", "path"),
    Index("document_by_class", "class_id"),
    Index("document_by_path", "path"),
)
# Texts stay when a document changes, so that an old citation still opens at its span; deleting the document deletes them.
document_version = Table(
    "document_version",
    metadata,
    Column("doc_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("pages", Text, nullable=False),
    # Where its access was stated while it was the current text: a later, more open version does not open an earlier one.
    Column("class_id", Integer, ForeignKey("acl_class.class_id"), nullable=False),
    Column("created", BigInteger, nullable=False),
)
chunk = Table(
    "chunk",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("chunk_id", Text, nullable=False, unique=True),
    Column("document", Integer, ForeignKey("document.number"), nullable=False),
    Column("ord", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("page", Integer),
    Column("heading_path", Text, nullable=False),
    Column("section_start", BigInteger, nullable=False),
    Column("section_end", BigInteger, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("chunk_by_document", "document", "ord"),
)
# -- vectors: never without the identity of what made them -------------------------------------------------------------
embedder = Table(
    "embedder",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("dims", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
)
vector = Table(
    "vector",
    metadata,
    Column("embedder", Text, ForeignKey("embedder.digest"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("e", LargeBinary, nullable=False),  # little-endian float32
)
# What happened to documents, in order: derived indexes follow it. Written in the transaction that changes the truth.
change = Table(
    "change",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # put, remove, access, vectors
    Column("document", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# -- what happened -----------------------------------------------------------------------------------------------------
trace = Table(
    "trace",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("asker", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("visible", Text, nullable=False),  # what the asker may see of the journey
    Column("operator", Text, nullable=False),  # counts of what permission cut off: for operators alone
    Column("trace_id", Text, nullable=False, server_default=""),
    Column("root_id", Text, nullable=False, server_default=""),
    Column("parent_id", Text, nullable=False, server_default=""),
    Column("name", Text, nullable=False, server_default=""),
    Column("door", Text, nullable=False, server_default=""),
    Column("mode", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False, server_default=""),
    Column("release", Text, nullable=False, server_default=""),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("duration_ms", Double, nullable=False, server_default="0"),
    Column("first_ms", Double),
    Column("cost_n", BigInteger, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("span_count", Integer, nullable=False, server_default="0"),
    Column("kept", Text, nullable=False, server_default="all"),
    Column("held", Text, nullable=False, server_default=""),
    # Everything that lists are filtered by: a search reads this index alone, whatever it looks for.
    Index(
        "trace_by_time",
        *("at", "request_id", "asker", "kind", "status", "door", "mode", "model", "release"),
        *("failed", "cost_n", "duration_ms"),
    ),
    Index("trace_by_asker", "asker", "at", "request_id"),
    Index("trace_by_trace", "trace_id"),
)
Index(
    "trace_failed",
    trace.c.at,
    trace.c.request_id,
    sqlite_where=trace.c.failed == 1,
    postgresql_where=trace.c.failed == 1,
)
Index(
    "trace_passing",
    trace.c.at,
    sqlite_where=trace.c.kept == "passing",
    postgresql_where=trace.c.kept == "passing",
)

# -- work that outlives a request --------------------------------------------------------------------------------------
job = Table(
    "job",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),  # raised by each claim: a writer with an older one is refused
    Column("owner", Text, nullable=False),
    Column("run_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger),
    Column("heartbeat_at", BigInteger),
    Column("progress", RedactedJson(), nullable=False),
    Column("result", RedactedJson(), nullable=False),
    Column("error", Redacted(), nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("job_by_turn", "state", "priority", "run_at"),
    Index("job_by_time", "updated"),
)
Index(
    "job_alone",
    job.c.key,
    unique=True,
    sqlite_where=and_(job.c.key != "", job.c.state.in_(("ready", "running"))),
    postgresql_where=and_(job.c.key != "", job.c.state.in_(("ready", "running"))),
)

# -- the agreement -----------------------------------------------------------------------------------------------------
agreement_version = Table(
    "agreement_version",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
)
agreement_approval = Table(
    "agreement_approval",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("note", Redacted(), nullable=False),
    Column("at", BigInteger, nullable=False),
)
# -- money: integers in nano-dollars -----------------------------------------------------------------------------------
money_scope = Table(
    "money_scope",
    metadata,
    Column("scope_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("window_end", BigInteger),
    Column("limit_n", BigInteger, nullable=False),
    Column("settled_n", BigInteger, nullable=False),
    Column("held_n", BigInteger, nullable=False),
    Index("money_scope_by_end", "window_end"),
)
hold = Table(
    "hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_n", BigInteger, nullable=False),
    Column("settled_n", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("estimated", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("closed", BigInteger),
    Index("hold_by_state", "state", "expires"),
    Index("hold_by_time", "created"),
    Index("hold_by_request", "request_id"),
    Index("hold_by_principal", "principal", "created"),
    Index("hold_by_key", "key_id", "created"),
)
# Only ever added to: what every change of money_scope was, so that its totals can be added up again. ``scopes`` are the
# scopes that the amounts were booked on, all of them alike, as a list in order.
money_entry = Table(
    "money_entry",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("scopes", Text, nullable=False),
    Column("held_n", BigInteger, nullable=False),
    Column("settled_n", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)
# -- what was measured -------------------------------------------------------------------------------------------------
measure = Table(
    "measure",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("door", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cached", Integer, nullable=False),
    Column("total_ms", Double, nullable=False),
    Column("first_ms", Double),
    Column("cost_n", BigInteger, nullable=False),
    Column("grounded", Double),
    Column("covered", Double),
    Index("measure_by_time", "at"),
)
# The same rows added up, an hour (its begin) of one team and door a row; ``*`` for team and door: of the whole hour. An hour
# without that row is not added up. Made from ``measure`` alone, and gone when a row of its hour comes late.
measure_hour = Table(
    "measure_hour",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("team", Text, primary_key=True),
    Column("door", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),  # with those that were turned away
    Column("turned_away", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("cost_n", BigInteger, nullable=False),
    Column("cost_squares", Double, nullable=False),
    Column("dearest", BigInteger, nullable=False),
    Column("grounded_n", BigInteger, nullable=False),
    Column("grounded", Double, nullable=False),
    Column("grounded_some", BigInteger, nullable=False),
    Column("covered_n", BigInteger, nullable=False),
    Column("covered", Double, nullable=False),
    Column("covered_some", BigInteger, nullable=False),
    Index("measure_hour_by_part", "team", "door", "hour"),
)
# When a release answered first in such an hour.
measure_release = Table(
    "measure_release",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("release", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)
# The times of such an hour in order, cut into pieces: counts need a look into one piece, ranks into a few.
measure_times = Table(
    "measure_times",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("team", Text, primary_key=True),
    Column("door", Text, primary_key=True),
    Column("timing", Text, primary_key=True),  # total_ms, first_ms
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("many", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False),  # little-endian float64
    Index("measure_times_by_part", "timing", "team", "door", "hour", "low", "high", "many"),
)
# -- answers that may serve again --------------------------------------------------------------------------------------
cached_answer = Table(
    "cached_answer",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("place", Text, nullable=False),  # release, agreement, language, filters, person: what is never shared across
    Column("exact", Text, nullable=False),
    Column("read_set", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("vector", LargeBinary),  # little-endian float32
    Column("answer", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("sources", Integer, nullable=False),  # how many rows of cached_source belong to it
    Column("hits", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("cached_answer_by_exact", "place", "exact", "created"),
    Index("cached_answer_by_time", "place", "created"),
    Index("cached_answer_by_expiry", "expires"),
    Index("cached_answer_by_owner", "owner"),
)
cached_source = Table(
    "cached_source",
    metadata,
    Column("entry_id", Text, ForeignKey("cached_answer.entry_id", ondelete="CASCADE"), primary_key=True),
    Column("doc_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Index("cached_source_by_document", "doc_id"),
)
# Answers made anew beside kept ones: whether they agreed. ``asked`` is a digest of the question, ``family`` whose
# likenesses are counted together.
cache_audit = Table(
    "cache_audit",
    metadata,
    Column("audit_id", Text, primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("asked", Text, nullable=False),
    Column("wording", Text, nullable=False),
    Column("similarity", Double, nullable=False),
    Column("agreed", Integer, nullable=False),
    Column("served", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("cache_audit_by_family", "family", "at"),
    Index("cache_audit_by_entry", "entry_id"),
    Index("cache_audit_by_time", "at"),
)
# -- limited modes -----------------------------------------------------------------------------------------------------
mode_event = Table(
    "mode_event",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("process", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Redacted(), nullable=False),
    Column("by_whom", Text, nullable=False),
    Index("mode_event_by_time", "at"),
)
# -- questions that go to a person -------------------------------------------------------------------------------------
handover = Table(
    "handover",
    metadata,
    Column("handover_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("principal", Text, nullable=False),
    Column("reason", Redacted(), nullable=False),
    Column("state", Text, nullable=False),
    Column("content", RedactedJson(personal=True), nullable=False),
    Column("detail", Redacted(personal=True), nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("handover_by_state", "state", "at"),
)
# -- who is signed in at the console -----------------------------------------------------------------------------------
session = Table(
    "session",
    metadata,
    Column("token_hash", Text, primary_key=True),  # SHA-256 of what the cookie holds
    Column("principal", Text, nullable=False),
    Column("display", Text, nullable=False),
    Column("asserted", Text),  # groups, as an identity provider asserted them at sign-in; none: it was not asked
    Column("credential", Text, nullable=False),  # what was shown: password, key, token, provider
    Column("key_id", Text, nullable=False),  # of the key that was shown, never the key itself
    Column("created", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("session_by_principal", "principal", "created"),
    Index("session_by_expiry", "expires"),
)
# -- the audit log -----------------------------------------------------------------------------------------------------
# One row: how large the log is, and the right edge of its tree. Who appends locks it first.
audit_log = Table(
    "audit_log",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("log_id", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("peaks", Text, nullable=False),  # hex, the largest first
)
# A head line that stays for ever, and a body (encrypted, with the salt of its digest) that goes when its owner is erased.
audit_event = Table(
    "audit_event",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Column("body", LargeBinary),
    Index("audit_event_by_action", "action", "n"),
    Index("audit_event_by_owner", "owner", "n"),
)
_KEPT = and_(audit_event.c.action == literal_column("'decision'"), audit_event.c.body.is_not(None))
Index("audit_event_kept", audit_event.c.at, sqlite_where=_KEPT, postgresql_where=_KEPT)
# Complete subtrees of level 1 and more: ``position * 2**level`` is their first leaf.
audit_node = Table(
    "audit_node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
audit_key = Table(
    "audit_key",
    metadata,
    Column("owner", Text, primary_key=True),  # the pseudonym under which the log speaks of them
    Column("name", Text, nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("public", Text, nullable=False),
    Column("signature", Text, nullable=False),
)
# Which head each witness has got last, and why it has not got a newer one.
audit_sent = Table(
    "audit_sent",
    metadata,
    Column("way", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("trouble", Redacted(), nullable=False),
)
# Nothing of this subject is erased or forgotten while it stands.
legal_hold = Table(
    "legal_hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("why", Redacted(), nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed", BigInteger, nullable=False),
    Column("lifted", BigInteger),
    Index("legal_hold_by_subject", "subject", "lifted"),
)
# Where in the log the decision record of a request stands.
decision = Table(
    "decision",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)
# -- traces of other programs, and texts that a service wants kept -----------------------------------------------------
# The summary of such a trace is a row of ``trace``, by the name ``trace_`` and its id.
span = Table(
    "span",
    metadata,
    Column("trace_id", Text, primary_key=True),
    Column("span_id", Text, primary_key=True),
    Column("parent_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("error_class", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_n", BigInteger, nullable=False),
    Column("first_ms", Double),
)
# What a step says of itself, apart: who draws ten thousand steps does not read it.
span_detail = Table(
    "span_detail",
    metadata,
    Column("trace_id", Text, primary_key=True),
    Column("span_id", Text, primary_key=True),
    Column("attributes", Text, nullable=False),
)
trace_content = Table(
    "trace_content",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("part", Text, primary_key=True),  # the span it belongs to; empty: the request itself
    Column("at", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Index("trace_content_by_time", "at"),
)
# -- what came of answers ----------------------------------------------------------------------------------------------
outcome = Table(
    "outcome",
    metadata,
    Column("outcome_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("mark", Text, nullable=False),  # the reporter's name for it: the same one again is a repetition
    Column("kind", Text, nullable=False),
    Column("value", Double),
    Column("unit", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("by_whom", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("comment", Text, nullable=False),
    Column("fields", Text, nullable=False),
    UniqueConstraint("request_id", "mark"),
    Index("outcome_by_time", "recorded"),
    Index("outcome_by_person", "by_whom"),
)
# -- objectives that raise alarm ---------------------------------------------------------------------------------------
alert = Table(
    "alert",
    metadata,
    Column("alert_id", Text, primary_key=True),
    Column("objective", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("looked", BigInteger, nullable=False),
    Column("windows", Text, nullable=False),  # what burns how fast, by window
    Column("quiet_since", BigInteger),
    Column("acknowledged", BigInteger),
    Column("acknowledged_by", Text, nullable=False),
    Column("note", Redacted(), nullable=False),
    Column("told", BigInteger),  # when people were told last
    Column("notices", Integer, nullable=False),
    Column("resolved", BigInteger),
    Column("resolved_told", Integer, nullable=False),
    Index("alert_by_time", "opened"),
)
Index(
    "alert_alone",
    alert.c.objective,
    alert.c.severity,
    unique=True,
    sqlite_where=alert.c.resolved.is_(None),
    postgresql_where=alert.c.resolved.is_(None),
)
silence = Table(
    "silence",
    metadata,
    Column("silence_id", Text, primary_key=True),
    Column("objective", Text, nullable=False),  # empty: any
    Column("severity", Text, nullable=False),  # empty: any
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("by_whom", Text, nullable=False),
    Column("note", Redacted(), nullable=False),
    Index("silence_by_end", "until"),
)
