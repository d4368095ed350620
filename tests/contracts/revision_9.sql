-- What the ninth revision added. Frozen, as the first.
INSERT INTO measure_hour VALUES (1767225600000000, '*', '*', 3, 1, 1, 0, 9007199254740993, 1.5, 9007199254740993, 2, 1.25, 2, 1, 0.5, 1);
INSERT INTO measure_release VALUES (1767225600000000, 'rel_ä', 1767225600000001);
INSERT INTO measure_times VALUES (1767225600000000, '*', '*', 'total_ms', 0, 0.5, 1234.5, 2, CAST('aaaaaaaabbbbbbbb' AS {blob}));
