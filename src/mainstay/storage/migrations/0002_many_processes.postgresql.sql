-- The rules that are there already, a row per principal.
INSERT INTO acl_grant (class_id, principal, denies)
  SELECT DISTINCT class_id, json_array_elements_text(allow::json), 0 FROM acl_class;
INSERT INTO acl_grant (class_id, principal, denies)
  SELECT DISTINCT class_id, json_array_elements_text(deny::json), 1 FROM acl_class;
