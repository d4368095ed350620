-- The first schema: who asks, what they may see, documents and their pieces, vectors, the change log, traces.
CREATE TABLE acl_class (
  class_id INTEGER NOT NULL,
  origin TEXT NOT NULL,
  allow TEXT NOT NULL,
  deny TEXT NOT NULL,
  updated BIGINT NOT NULL,
  PRIMARY KEY (class_id),
  UNIQUE (origin)
);
CREATE INDEX acl_class_by_updated ON acl_class (updated);
CREATE TABLE api_key (
  key_id TEXT NOT NULL,
  name TEXT NOT NULL,
  principal TEXT NOT NULL,
  secret_hash TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT,
  revoked BIGINT,
  last_used BIGINT,
  PRIMARY KEY (key_id)
);
CREATE TABLE change (
  n BIGINT NOT NULL,
  kind TEXT NOT NULL,
  document INTEGER NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (n)
);
CREATE TABLE embedder (
  digest TEXT NOT NULL,
  name TEXT NOT NULL,
  precision TEXT NOT NULL,
  dims INTEGER NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (digest)
);
CREATE TABLE fact (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE membership (
  principal TEXT NOT NULL,
  member TEXT NOT NULL,
  source TEXT NOT NULL,
  since BIGINT NOT NULL,
  PRIMARY KEY (principal, member, source)
);
CREATE INDEX membership_by_member ON membership (member);
CREATE TABLE principal (
  name TEXT NOT NULL,
  display TEXT NOT NULL,
  email TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  admin INTEGER NOT NULL,
  disabled INTEGER NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE source (
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  root TEXT NOT NULL,
  state TEXT NOT NULL,
  detail TEXT NOT NULL,
  synced_at BIGINT,
  PRIMARY KEY (name)
);
CREATE TABLE trace (
  request_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  asker TEXT NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  visible TEXT NOT NULL,
  operator TEXT NOT NULL,
  PRIMARY KEY (request_id)
);
CREATE INDEX trace_by_time ON trace (at);
CREATE TABLE document (
  number INTEGER NOT NULL,
  doc_id TEXT NOT NULL,
  source TEXT NOT NULL,
  path TEXT NOT NULL,
  uri TEXT NOT NULL,
  title TEXT NOT NULL,
  media_type TEXT NOT NULL,
  version TEXT NOT NULL,
  raw_digest TEXT NOT NULL,
  class_id INTEGER NOT NULL,
  own_access TEXT NOT NULL,
  metadata TEXT NOT NULL,
  language TEXT NOT NULL,
  modified BIGINT,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  size BIGINT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  findings TEXT NOT NULL,
  recipe TEXT NOT NULL,
  PRIMARY KEY (number),
  UNIQUE (source, path),
  UNIQUE (doc_id),
  FOREIGN KEY(class_id) REFERENCES acl_class (class_id)
);
CREATE INDEX document_by_class ON document (class_id);
CREATE INDEX document_by_path ON document (path);
CREATE TABLE document_version (
  doc_id TEXT NOT NULL,
  version TEXT NOT NULL,
  text TEXT NOT NULL,
  pages TEXT NOT NULL,
  class_id INTEGER NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (doc_id, version),
  FOREIGN KEY(class_id) REFERENCES acl_class (class_id)
);
CREATE TABLE vector (
  embedder TEXT NOT NULL,
  seq BIGINT NOT NULL,
  e {blob} NOT NULL,
  PRIMARY KEY (embedder, seq),
  FOREIGN KEY(embedder) REFERENCES embedder (digest)
);
CREATE TABLE chunk (
  seq BIGINT NOT NULL,
  chunk_id TEXT NOT NULL,
  document INTEGER NOT NULL,
  ord INTEGER NOT NULL,
  start BIGINT NOT NULL,
  "end" BIGINT NOT NULL,
  page INTEGER,
  heading_path TEXT NOT NULL,
  section_start BIGINT NOT NULL,
  section_end BIGINT NOT NULL,
  prefix TEXT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (seq),
  UNIQUE (chunk_id),
  FOREIGN KEY(document) REFERENCES document (number)
);
CREATE INDEX chunk_by_document ON chunk (document, ord);
