-- What the fourth revision added. Frozen, as the first.
INSERT INTO agreement_version VALUES ('agr_1', '{"request": {"cap_usd": "0.01"}}', 1000);
INSERT INTO agreement_approval VALUES ('apr_1', 'agr_1', 'Ann "O"', 'CFO', '', 1000);
INSERT INTO money_scope VALUES ('user:alice/day/1000', 'user', 'user:alice', 1000, 2000, 9000000000000, 5, 7);
INSERT INTO hold VALUES ('hold_1', 'req_1', 'answer', 'small', 'user:alice', '', 'key_1', 'rel_1', 'p1', 'open', 7, 0, 0, 0, 0, 0, 1000, 2000, NULL);
INSERT INTO money_entry VALUES ('hold_1', 'held', '["user:alice/day/1000"]', 7, 0, 1000);
INSERT INTO measure VALUES ('req_1', 1000, 'answer', 'answers', 'user:alice', '', 'answered', 'full', 'small', 'rel_1', 0, 0, 12.5, NULL, 5, 0.5, 1.0);
INSERT INTO cached_answer VALUES ('cac_1', 'p', 'e', 'r', 'What?', NULL, '{}', '', 1, 0, 1000, 2000);
INSERT INTO cached_source VALUES ('cac_1', 'doc_1', 'v1');
INSERT INTO cache_audit VALUES ('aud_1', 'cac_1', 'p', 'a', 'same', 0.875, 1, 1, 1000);
INSERT INTO mode_event VALUES ('mev_1', 1000, 'p1', 'full', 'economy', 'breaker', 'small', 'service');
INSERT INTO handover VALUES ('han_1', 'req_1', 1000, 'user:alice', 'asked', 'waiting', '{}', '', 1000);
