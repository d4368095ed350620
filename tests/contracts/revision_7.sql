-- What the seventh revision added. Frozen, as the first.
INSERT INTO outcome VALUES ('out_1', 'req_1', 'ticket-7', 'solved', 12.5, 'minutes', 'helpdesk', 'user:böb', 1000, 2000, 'thanks', '{}');
INSERT INTO alert VALUES ('alr_1', 'latency', 'page', 1000, 2000, '[]', NULL, 1500, 'user:böb', 'on it', 1200, 1, NULL, 0);
INSERT INTO silence VALUES ('sil_1', 'latency', '', 1000, 9000, 'user:böb', 'moving house');
