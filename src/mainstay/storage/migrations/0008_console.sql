-- The console: what each person may do, and who is signed in. And what finds the cost of a budget that is added.
ALTER TABLE principal ADD COLUMN role TEXT NOT NULL DEFAULT 'asker';
CREATE TABLE session (
  token_hash TEXT NOT NULL,
  principal TEXT NOT NULL,
  display TEXT NOT NULL,
  asserted TEXT,
  credential TEXT NOT NULL,
  key_id TEXT NOT NULL,
  created BIGINT NOT NULL,
  seen BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  PRIMARY KEY (token_hash)
);
CREATE INDEX session_by_principal ON session (principal, created);
CREATE INDEX session_by_expiry ON session (expires);
-- A budget that is added counts what its window has already cost: these find it.
CREATE INDEX hold_by_principal ON hold (principal, created);
CREATE INDEX hold_by_key ON hold (key_id, created);
