-- What the fifth revision added. Frozen, as the first.
INSERT INTO span VALUES ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7', '', 'generate', 'chat ä', 1000, 12.5, 'ok', '', 'crm', 'small', 3, 4, 5, NULL);
INSERT INTO span_detail VALUES ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7', '{"a":[1]}');
INSERT INTO trace_content VALUES ('req_1', '', 1000, '{"question":"What?"}');
