-- Run once by the postgres image, when its volume is empty. Mainstay gets a role of its own: row-level security is the
-- second wall around documents, and a superuser walks through it.
\getenv password MAINSTAY_PASSWORD
CREATE ROLE mainstay LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE mainstay OWNER mainstay;
REVOKE ALL ON DATABASE mainstay FROM PUBLIC;
