-- What a service of the first revision held. Frozen: written for that schema, never changed with later ones.
INSERT INTO acl_class VALUES (1, 'folder:docs/a', '["group:finance","user:ann\"o"]', '[]', 1000);
INSERT INTO acl_class VALUES (2, 'acl:x', '["public"]', '["group:finance","user:böb"]', 2000);
INSERT INTO acl_class VALUES (3, 'source:empty', '[]', '[]', 3000);
INSERT INTO api_key VALUES ('key_1', 'k', 'user:alice', 'hash', '["ask"]', 1000, NULL, NULL, 5000);
INSERT INTO change VALUES (1, 'put', 1, 1000);
INSERT INTO embedder VALUES ('e1', 'static', 'int8', 4, 1000);
INSERT INTO fact VALUES ('salt', 'abab');
INSERT INTO fact VALUES ('acl_last_class', '3');
INSERT INTO fact VALUES ('counter:document', '1');
INSERT INTO principal VALUES ('user:alice', 'Alice :name %s', 'a@example.org', '', 1, 0, 1000);
INSERT INTO membership VALUES ('group:finance', 'user:alice', 'local', 1000);
INSERT INTO source VALUES ('docs', 'folder', '/d', 'complete', '', NULL);
INSERT INTO trace VALUES ('req_1', 1000, 'user:alice', 'answer', 'answered', '{}', '{}');
INSERT INTO document VALUES (1, 'doc_1', 'docs', 'a/1.md', 'file:///d/a/1.md', 'Größe', 'text/markdown', 'v1', 'd', 1, '', '{}', 'en', NULL, 1000, 1000, 1099511627776, 'ready', '', '[]', '1');
INSERT INTO document_version VALUES ('doc_1', 'v1', 'The crane lifts forty tonnes.', '[]', 1, 1000);
INSERT INTO chunk VALUES (1, 'chunk_1', 1, 0, 0, 29, NULL, '[]', 0, 29, '', 'The crane lifts forty tonnes.');
