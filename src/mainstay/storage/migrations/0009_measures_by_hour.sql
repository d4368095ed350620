-- What was measured, added up by the hour. Empty at first: hours are added up from the rows when somebody looks, and kept.
CREATE TABLE measure_hour (
  hour BIGINT NOT NULL,
  team TEXT NOT NULL,
  door TEXT NOT NULL,
  requests BIGINT NOT NULL,
  turned_away BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  cached BIGINT NOT NULL,
  cost_n BIGINT NOT NULL,
  cost_squares {float} NOT NULL,
  dearest BIGINT NOT NULL,
  grounded_n BIGINT NOT NULL,
  grounded {float} NOT NULL,
  grounded_some BIGINT NOT NULL,
  covered_n BIGINT NOT NULL,
  covered {float} NOT NULL,
  covered_some BIGINT NOT NULL,
  PRIMARY KEY (hour, team, door)
);
CREATE INDEX measure_hour_by_part ON measure_hour (team, door, hour);
CREATE TABLE measure_release (
  hour BIGINT NOT NULL,
  release TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (hour, release)
);
CREATE TABLE measure_times (
  hour BIGINT NOT NULL,
  team TEXT NOT NULL,
  door TEXT NOT NULL,
  timing TEXT NOT NULL,
  n INTEGER NOT NULL,
  low {float} NOT NULL,
  high {float} NOT NULL,
  many INTEGER NOT NULL,
  times {blob} NOT NULL,
  PRIMARY KEY (hour, team, door, timing, n)
);
CREATE INDEX measure_times_by_part ON measure_times (timing, team, door, hour, low, high, many);
