-- Creates the user of [redshift] and grants what the ingester's statements need. Run it as a superuser, after
-- `ingester ddl`. The names are the defaults of the configuration; change them here if you changed them there.

-- The password as MD5 of password and user name: 'md5' || MD5('the password' || 'livestream_loader').
-- The client knows MD5 passwords, not Redshift's sha256 ones.
CREATE USER livestream_loader PASSWORD 'md5________________________________';

GRANT USAGE ON SCHEMA public TO livestream_loader;

-- The loader owns its three tables: COPY with an explicit STATUPDATE, which the ingester uses, is for owners and
-- superusers (https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-load.html), and LOCK takes more
-- than SELECT and INSERT. So is ALTER TABLE, by which the ingester adds columns (redshift.on_schema_change) and
-- `ingester ddl --apply` alters the tables. `ingester check` shows whether the rights suffice.
ALTER TABLE public.livestream OWNER TO livestream_loader;
ALTER TABLE public.livestream_ledger OWNER TO livestream_loader;
ALTER TABLE public.livestream_ledger_lock OWNER TO livestream_loader;

-- A staged load needs a temporary table. Redshift gives this right to every user; grant it only where it was taken from
-- PUBLIC (REVOKE TEMP ON DATABASE … FROM PUBLIC):
-- GRANT TEMP ON DATABASE dev TO livestream_loader;

-- Only where ASSUMEROLE was taken from PUBLIC (REVOKE ASSUMEROLE ON ALL FROM PUBLIC FOR ALL):
-- GRANT ASSUMEROLE ON 'arn:aws:iam::123456789012:role/livestream-copy' TO livestream_loader FOR COPY;

-- Load errors need no grant: stl_load_errors and sys_load_error_detail show every user their own loads.
