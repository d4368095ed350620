-- Jobs for many workers; access rules a row per principal; counters that are there before two writers meet.
CREATE TABLE job (
  job_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  payload TEXT NOT NULL,
  state TEXT NOT NULL,
  priority INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL,
  token BIGINT NOT NULL,
  owner TEXT NOT NULL,
  run_at BIGINT NOT NULL,
  lease_until BIGINT,
  heartbeat_at BIGINT,
  progress TEXT NOT NULL,
  result TEXT NOT NULL,
  error TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE INDEX job_by_turn ON job (state, priority, run_at);
CREATE INDEX job_by_time ON job (updated);
CREATE UNIQUE INDEX job_alone ON job (key) WHERE key != '' AND state IN ('ready', 'running');
CREATE TABLE acl_grant (
  class_id INTEGER NOT NULL,
  principal TEXT NOT NULL,
  denies INTEGER NOT NULL,
  PRIMARY KEY (class_id, principal, denies),
  FOREIGN KEY(class_id) REFERENCES acl_class (class_id) ON DELETE CASCADE
);
CREATE INDEX acl_grant_by_principal ON acl_grant (principal, denies, class_id);
