-- What came of answers, objectives that raise alarm, and who is not to hear of it for a while.
CREATE TABLE outcome (
  outcome_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  mark TEXT NOT NULL,
  kind TEXT NOT NULL,
  value {float},
  unit TEXT NOT NULL,
  source TEXT NOT NULL,
  by_whom TEXT NOT NULL,
  at BIGINT NOT NULL,
  recorded BIGINT NOT NULL,
  comment TEXT NOT NULL,
  fields TEXT NOT NULL,
  PRIMARY KEY (outcome_id),
  UNIQUE (request_id, mark)
);
CREATE INDEX outcome_by_time ON outcome (recorded);
CREATE INDEX outcome_by_person ON outcome (by_whom);
CREATE TABLE alert (
  alert_id TEXT NOT NULL,
  objective TEXT NOT NULL,
  severity TEXT NOT NULL,
  opened BIGINT NOT NULL,
  looked BIGINT NOT NULL,
  windows TEXT NOT NULL,
  quiet_since BIGINT,
  acknowledged BIGINT,
  acknowledged_by TEXT NOT NULL,
  note TEXT NOT NULL,
  told BIGINT,
  notices INTEGER NOT NULL,
  resolved BIGINT,
  resolved_told INTEGER NOT NULL,
  PRIMARY KEY (alert_id)
);
CREATE INDEX alert_by_time ON alert (opened);
CREATE UNIQUE INDEX alert_alone ON alert (objective, severity) WHERE resolved IS NULL;
CREATE TABLE silence (
  silence_id TEXT NOT NULL,
  objective TEXT NOT NULL,
  severity TEXT NOT NULL,
  since BIGINT NOT NULL,
  until BIGINT NOT NULL,
  by_whom TEXT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (silence_id)
);
CREATE INDEX silence_by_end ON silence (until);
