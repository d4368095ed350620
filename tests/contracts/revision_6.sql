-- What the sixth revision added. Frozen, as the first. {blob} is the database's type of bytes.
INSERT INTO audit_log VALUES (1, 'log_1', 1, 'c0ffee');
INSERT INTO audit_event VALUES (0, 1000, 'user.added', 'p_0', '', 'aa', 'bb', CAST('leaf' AS {blob}), CAST('salt' AS {blob}), NULL);
INSERT INTO audit_node VALUES (1, 4294967296, CAST('node' AS {blob}));
INSERT INTO audit_key VALUES ('p_0', 'user:böb', CAST('secret' AS {blob}), 1000);
INSERT INTO audit_head VALUES (1, 'aa', 1000, 'ak_1', 'bb', 'cc');
INSERT INTO audit_sent VALUES ('file', 1, 1000, '');
INSERT INTO legal_hold VALUES ('hold_1', 'user:böb', 'case 12', 'cli:root', 1000, NULL);
INSERT INTO decision VALUES ('req_1', 0);
