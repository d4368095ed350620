-- What the second revision added. Frozen, as the first.
INSERT INTO acl_grant VALUES (1, 'group:finance', 0);
INSERT INTO acl_grant VALUES (1, 'user:ann"o', 0);
INSERT INTO acl_grant VALUES (2, 'public', 0);
INSERT INTO acl_grant VALUES (2, 'group:finance', 1);
INSERT INTO acl_grant VALUES (2, 'user:böb', 1);
INSERT INTO job VALUES ('job_1', 'sync', 'docs', '{}', 'ready', 100, 0, 5, 7, '', 1000, NULL, NULL, '{}', '{}', '', 'user:alice', 1000, 1000);
