-- Traces: what lists are filtered by, steps of other programs, texts that a service wants kept.
ALTER TABLE trace ADD COLUMN trace_id TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN root_id TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN parent_id TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN door TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN mode TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN release TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN duration_ms {float} NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN first_ms {float};
ALTER TABLE trace ADD COLUMN cost_n BIGINT NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN input_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN output_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN span_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trace ADD COLUMN kept TEXT NOT NULL DEFAULT 'all';
ALTER TABLE trace ADD COLUMN held TEXT NOT NULL DEFAULT '';
UPDATE trace SET (door, mode, model, release, failed, duration_ms, first_ms, cost_n) = (
  SELECT measure.door, measure.mode, measure.model, measure.release, measure.failed, measure.total_ms, measure.first_ms,
         measure.cost_n
  FROM measure WHERE measure.request_id = trace.request_id
) WHERE EXISTS (SELECT 1 FROM measure WHERE measure.request_id = trace.request_id);
DROP INDEX trace_by_time;
CREATE INDEX trace_by_time ON trace (
  at, request_id, asker, kind, status, door, mode, model, release, failed, cost_n, duration_ms
);
CREATE INDEX trace_by_asker ON trace (asker, at, request_id);
CREATE INDEX trace_by_trace ON trace (trace_id);
CREATE INDEX trace_failed ON trace (at, request_id) WHERE failed = 1;
CREATE INDEX trace_passing ON trace (at) WHERE kept = 'passing';
CREATE TABLE span (
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  parent_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  start BIGINT NOT NULL,
  duration_ms {float} NOT NULL,
  status TEXT NOT NULL,
  error_class TEXT NOT NULL,
  service TEXT NOT NULL,
  model TEXT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cost_n BIGINT NOT NULL,
  first_ms {float},
  PRIMARY KEY (trace_id, span_id)
);
CREATE TABLE span_detail (
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  attributes TEXT NOT NULL,
  PRIMARY KEY (trace_id, span_id)
);
CREATE TABLE trace_content (
  request_id TEXT NOT NULL,
  part TEXT NOT NULL,
  at BIGINT NOT NULL,
  content TEXT NOT NULL,
  PRIMARY KEY (request_id, part)
);
CREATE INDEX trace_content_by_time ON trace_content (at);
