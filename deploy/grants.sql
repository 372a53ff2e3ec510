-- The user of [redshift], and what the ingester's statements need. Run it as an owner of the tables, after
-- `ingester ddl`. Names are the defaults of the configuration; change them here as there.

-- The password as MD5 of password and user name: 'md5' || MD5('the password' || 'livestream_loader').
-- The client knows MD5 passwords, not Redshift's sha256 ones.
CREATE USER livestream_loader PASSWORD 'md5________________________________';

GRANT USAGE ON SCHEMA public TO livestream_loader;

-- COPY inserts. Each new connection looks at the columns with SELECT … WHERE false, which reads no row.
GRANT SELECT, INSERT ON public.livestream TO livestream_loader;

-- The ledger is read and written. UPDATE is for LOCK alone: Redshift documents no privilege for it, and
-- PostgreSQL, on which it is built, asks for UPDATE or DELETE. No row is ever updated. `ingester check` shows
-- under "Redshift ledger lock" whether it is enough.
GRANT SELECT, INSERT, UPDATE ON public.livestream_ledger TO livestream_loader;

-- Only where ASSUMEROLE was taken from PUBLIC (REVOKE ASSUMEROLE ON ALL FROM PUBLIC FOR ALL):
-- GRANT ASSUMEROLE ON 'arn:aws:iam::123456789012:role/livestream-copy' TO livestream_loader FOR COPY;

-- Load errors need no grant: stl_load_errors and sys_load_error_detail show every user their own loads.
