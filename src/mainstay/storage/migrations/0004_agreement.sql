-- The agreement: its versions and who approved them, money, what was measured, cached answers, modes, hand-overs.
CREATE TABLE agreement_version (
  digest TEXT NOT NULL,
  content TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  PRIMARY KEY (digest)
);
CREATE TABLE agreement_approval (
  approval_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  note TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (approval_id)
);
CREATE TABLE money_scope (
  scope_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  window_start BIGINT NOT NULL,
  window_end BIGINT,
  limit_n BIGINT NOT NULL,
  settled_n BIGINT NOT NULL,
  held_n BIGINT NOT NULL,
  PRIMARY KEY (scope_id)
);
CREATE INDEX money_scope_by_end ON money_scope (window_end);
CREATE TABLE hold (
  hold_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  model TEXT NOT NULL,
  principal TEXT NOT NULL,
  team TEXT NOT NULL,
  key_id TEXT NOT NULL,
  release TEXT NOT NULL,
  price_version TEXT NOT NULL,
  state TEXT NOT NULL,
  amount_n BIGINT NOT NULL,
  settled_n BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cached_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  estimated INTEGER NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  closed BIGINT,
  PRIMARY KEY (hold_id)
);
CREATE INDEX hold_by_state ON hold (state, expires);
CREATE INDEX hold_by_time ON hold (created);
CREATE INDEX hold_by_request ON hold (request_id);
CREATE TABLE money_entry (
  hold_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  scopes TEXT NOT NULL,
  held_n BIGINT NOT NULL,
  settled_n BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (hold_id, reason)
);
CREATE TABLE measure (
  request_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  kind TEXT NOT NULL,
  door TEXT NOT NULL,
  principal TEXT NOT NULL,
  team TEXT NOT NULL,
  status TEXT NOT NULL,
  mode TEXT NOT NULL,
  model TEXT NOT NULL,
  release TEXT NOT NULL,
  failed INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  total_ms {float} NOT NULL,
  first_ms {float},
  cost_n BIGINT NOT NULL,
  grounded {float},
  covered {float},
  PRIMARY KEY (request_id)
);
CREATE INDEX measure_by_time ON measure (at);
CREATE TABLE cached_answer (
  entry_id TEXT NOT NULL,
  place TEXT NOT NULL,
  exact TEXT NOT NULL,
  read_set TEXT NOT NULL,
  question TEXT NOT NULL,
  vector {blob},
  answer TEXT NOT NULL,
  owner TEXT NOT NULL,
  sources INTEGER NOT NULL,
  hits BIGINT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  PRIMARY KEY (entry_id)
);
CREATE INDEX cached_answer_by_exact ON cached_answer (place, exact, created);
CREATE INDEX cached_answer_by_time ON cached_answer (place, created);
CREATE INDEX cached_answer_by_expiry ON cached_answer (expires);
CREATE INDEX cached_answer_by_owner ON cached_answer (owner);
CREATE TABLE cached_source (
  entry_id TEXT NOT NULL,
  doc_id TEXT NOT NULL,
  version TEXT NOT NULL,
  PRIMARY KEY (entry_id, doc_id, version),
  FOREIGN KEY(entry_id) REFERENCES cached_answer (entry_id) ON DELETE CASCADE
);
CREATE INDEX cached_source_by_document ON cached_source (doc_id);
CREATE TABLE cache_audit (
  audit_id TEXT NOT NULL,
  entry_id TEXT NOT NULL,
  family TEXT NOT NULL,
  asked TEXT NOT NULL,
  wording TEXT NOT NULL,
  similarity {float} NOT NULL,
  agreed INTEGER NOT NULL,
  served INTEGER NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (audit_id)
);
CREATE INDEX cache_audit_by_family ON cache_audit (family, at);
CREATE INDEX cache_audit_by_entry ON cache_audit (entry_id);
CREATE INDEX cache_audit_by_time ON cache_audit (at);
CREATE TABLE mode_event (
  event_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  process TEXT NOT NULL,
  before TEXT NOT NULL,
  after TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  by_whom TEXT NOT NULL,
  PRIMARY KEY (event_id)
);
CREATE INDEX mode_event_by_time ON mode_event (at);
CREATE TABLE handover (
  handover_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  principal TEXT NOT NULL,
  reason TEXT NOT NULL,
  state TEXT NOT NULL,
  content TEXT NOT NULL,
  detail TEXT NOT NULL,
  updated BIGINT NOT NULL,
  PRIMARY KEY (handover_id)
);
CREATE INDEX handover_by_state ON handover (state, at);
