-- The rules that are there already, a row per principal.
INSERT INTO acl_grant (class_id, principal, denies)
  SELECT DISTINCT acl_class.class_id, each.value, 0 FROM acl_class, json_each(acl_class.allow) AS each;
INSERT INTO acl_grant (class_id, principal, denies)
  SELECT DISTINCT acl_class.class_id, each.value, 1 FROM acl_class, json_each(acl_class.deny) AS each;
