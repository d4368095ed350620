-- The audit log: events, the tree over them, keys of those it speaks of, signed heads, legal holds, decision records.
CREATE TABLE audit_log (
  one INTEGER NOT NULL,
  log_id TEXT NOT NULL,
  size BIGINT NOT NULL,
  peaks TEXT NOT NULL,
  PRIMARY KEY (one)
);
CREATE TABLE audit_event (
  n BIGINT NOT NULL,
  at BIGINT NOT NULL,
  action TEXT NOT NULL,
  owner TEXT NOT NULL,
  before TEXT NOT NULL,
  after TEXT NOT NULL,
  digest TEXT NOT NULL,
  leaf {blob} NOT NULL,
  salt {blob},
  body {blob},
  PRIMARY KEY (n)
);
CREATE INDEX audit_event_by_action ON audit_event (action, n);
CREATE INDEX audit_event_by_owner ON audit_event (owner, n);
CREATE INDEX audit_event_kept ON audit_event (at) WHERE action = 'decision' AND body IS NOT NULL;
CREATE TABLE audit_node (
  level INTEGER NOT NULL,
  position BIGINT NOT NULL,
  hash {blob} NOT NULL,
  PRIMARY KEY (level, position)
);
CREATE TABLE audit_key (
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  secret {blob} NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (owner),
  UNIQUE (name)
);
CREATE TABLE audit_head (
  size BIGINT NOT NULL,
  root TEXT NOT NULL,
  at BIGINT NOT NULL,
  key_id TEXT NOT NULL,
  public TEXT NOT NULL,
  signature TEXT NOT NULL,
  PRIMARY KEY (size)
);
CREATE TABLE audit_sent (
  way TEXT NOT NULL,
  size BIGINT NOT NULL,
  at BIGINT NOT NULL,
  trouble TEXT NOT NULL,
  PRIMARY KEY (way)
);
CREATE TABLE legal_hold (
  hold_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  why TEXT NOT NULL,
  placed_by TEXT NOT NULL,
  placed BIGINT NOT NULL,
  lifted BIGINT,
  PRIMARY KEY (hold_id)
);
CREATE INDEX legal_hold_by_subject ON legal_hold (subject, lifted);
CREATE TABLE decision (
  request_id TEXT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (request_id)
);
