-- Row-level security, forced on the owner too: every statement names its permitted classes itself, and should one ever
-- forget to, this is the second wall. `mainstay.access` is set for each transaction: `all` (maintenance,
-- administrators) or `scope`, which sees what `mainstay.principals` may read by acl_grant. Unset sees nothing. Settings
-- are read in sub-selects, so that they are read once a statement.
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE document FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON document
  USING ((SELECT current_setting('mainstay.access', true)) = 'all');
CREATE POLICY visible ON document FOR SELECT USING (
  (SELECT current_setting('mainstay.access', true)) = 'scope'
  AND class_id IN (
    SELECT acl_grant.class_id FROM acl_grant JOIN unnest((SELECT nullif(current_setting('mainstay.principals', true), ''))::text[])
      AS mine (name) ON acl_grant.principal = mine.name WHERE acl_grant.denies = 0)
  AND class_id NOT IN (
    SELECT acl_grant.class_id FROM acl_grant JOIN unnest((SELECT nullif(current_setting('mainstay.principals', true), ''))::text[])
      AS mine (name) ON acl_grant.principal = mine.name WHERE acl_grant.denies = 1));

-- Whether a document is visible, for the tables that hang on it: its own wall answers. A function, because the planner
-- would otherwise copy that wall into each of them; it is planned once a session.
CREATE FUNCTION document_is_visible(wanted INTEGER) RETURNS BOOLEAN LANGUAGE plpgsql STABLE
  SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN EXISTS (SELECT FROM document WHERE document.number = wanted);
END $$;
CREATE FUNCTION version_is_visible(wanted TEXT, class INTEGER) RETURNS BOOLEAN LANGUAGE plpgsql STABLE
  SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN EXISTS (SELECT FROM document WHERE document.doc_id = wanted)
    AND EXISTS (SELECT FROM acl_grant WHERE class_id = class AND denies = 0
      AND principal = ANY (nullif(current_setting('mainstay.principals', true), '')::text[]))
    AND NOT EXISTS (SELECT FROM acl_grant WHERE class_id = class AND denies = 1
      AND principal = ANY (nullif(current_setting('mainstay.principals', true), '')::text[]));
END $$;
CREATE FUNCTION chunk_is_visible(wanted BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql STABLE
  SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN EXISTS (SELECT FROM chunk WHERE chunk.seq = wanted);
END $$;

-- A version is seen where its document is, and where it might be read as it was.
ALTER TABLE document_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_version FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON document_version
  USING ((SELECT current_setting('mainstay.access', true)) = 'all');
CREATE POLICY visible ON document_version FOR SELECT USING (
  (SELECT current_setting('mainstay.access', true)) = 'scope' AND version_is_visible(doc_id, class_id));

ALTER TABLE chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunk FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON chunk
  USING ((SELECT current_setting('mainstay.access', true)) = 'all');
CREATE POLICY visible ON chunk FOR SELECT USING (
  (SELECT current_setting('mainstay.access', true)) = 'scope' AND document_is_visible(document));

ALTER TABLE vector ENABLE ROW LEVEL SECURITY;
ALTER TABLE vector FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON vector
  USING ((SELECT current_setting('mainstay.access', true)) = 'all');
CREATE POLICY visible ON vector FOR SELECT USING (
  (SELECT current_setting('mainstay.access', true)) = 'scope' AND chunk_is_visible(seq));

-- A journey is its asker's.
ALTER TABLE trace ENABLE ROW LEVEL SECURITY;
ALTER TABLE trace FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON trace
  USING ((SELECT current_setting('mainstay.access', true)) = 'all');
CREATE POLICY visible ON trace FOR SELECT USING (
  (SELECT current_setting('mainstay.access', true)) = 'scope'
  AND asker = ANY ((SELECT nullif(current_setting('mainstay.principals', true), '')::text[])::text[]));

-- The permitted documents are read from this index alone.
CREATE INDEX document_permitted ON document (class_id, number);
