-- What the eighth revision added. Frozen, as the first.
INSERT INTO session VALUES ('aa', 'user:ann', 'Ann ä', NULL, 'password', '', 1000, 1000, 2000);
