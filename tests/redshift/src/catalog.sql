-- What the private PostgreSQL must know to pass for Redshift. Run once, as its superuser.
CREATE SCHEMA IF NOT EXISTS standin;
GRANT USAGE ON SCHEMA standin TO PUBLIC;

-- The types the client declared; PostgreSQL itself only holds text, numeric and the like.
CREATE TABLE IF NOT EXISTS standin.columns (
    table_schema text NOT NULL,
    table_name text NOT NULL,
    ordinal int NOT NULL,
    column_name text NOT NULL,
    redshift_type text NOT NULL,
    not_null boolean NOT NULL,
    column_default text,
    PRIMARY KEY (table_schema, table_name, column_name)
);
-- Keys and encodings; `auto_encoded` is of the table: ENCODE AUTO, because no column was given an encoding.
ALTER TABLE standin.columns
    ADD COLUMN IF NOT EXISTS constrained boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS encoding text NOT NULL DEFAULT 'none',
    ADD COLUMN IF NOT EXISTS distkey boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS sortkey int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS auto_encoded boolean NOT NULL DEFAULT true;
-- What Redshift chooses: https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html
CREATE OR REPLACE FUNCTION standin.auto_encoding(redshift_type text, sorts boolean) RETURNS text LANGUAGE sql AS
    $$ SELECT CASE WHEN sorts OR redshift_type IN ('boolean', 'real', 'double precision') THEN 'none'
        WHEN redshift_type LIKE 'character%' THEN 'lzo' WHEN redshift_type = 'super' THEN 'zstd' ELSE 'az64' END $$;
CREATE OR REPLACE FUNCTION standin.refuse(message text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '%', message USING ERRCODE = 'XX000'; END $$;
CREATE SEQUENCE IF NOT EXISTS standin.query_id START 1001;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_STL_LOAD_ERRORS.html
CREATE TABLE IF NOT EXISTS standin.stl_load_errors (
    userid int, slice int, tbl int, starttime timestamp, session int, query int, filename char(256),
    line_number bigint, colname char(127), type char(10), col_length char(10), position int,
    raw_line char(1024), raw_field_value char(1024), err_code int, err_reason char(100), is_partial int,
    start_offset bigint, copy_job_id bigint
);
-- https://docs.aws.amazon.com/redshift/latest/dg/r_STL_LOADERROR_DETAIL.html
CREATE TABLE IF NOT EXISTS standin.stl_loaderror_detail (
    userid int, slice int, session int, query int, filename char(256), line_number bigint, field int,
    colname char(127), value char(1024), is_null int, type char(10), col_length char(10)
);
-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_ERROR_DETAIL.html
CREATE TABLE IF NOT EXISTS standin.sys_load_error_detail (
    user_id int, query_id bigint, transaction_id bigint, session_id int, database_name char(64), table_id int,
    start_time timestamp, file_name char(256), line_number bigint, column_name char(127), column_type char(10),
    column_length char(10), position int, error_code int, error_message char(512)
);
-- https://docs.aws.amazon.com/redshift/latest/dg/r_STL_LOAD_COMMITS.html ; a row does not prove a commit.
CREATE TABLE IF NOT EXISTS standin.stl_load_commits (
    userid int, query int, slice int, name char(256), filename char(256), byte_offset int, lines_scanned int,
    errors int, curtime timestamp, status int, file_format char(16), is_partial int, start_offset bigint,
    copy_job_id bigint
);
-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_DETAIL.html
CREATE TABLE IF NOT EXISTS standin.sys_load_detail (
    user_id int, query_id int, file_name char(256), bytes_scanned int, lines_scanned int, record_time timestamp,
    splits_scanned int, start_time timestamp, end_time timestamp, file_etag char(256),
    file_last_modified timestamp
);
-- https://docs.aws.amazon.com/redshift/latest/dg/r_STV_DB_ISOLATION_LEVEL.html
CREATE OR REPLACE VIEW standin.stv_db_isolation_level AS
    SELECT oid::int AS db_id, datname::char(128) AS db_name,
        (CASE current_setting('transaction_isolation') WHEN 'serializable' THEN 'Serializable'
            ELSE 'Snapshot Isolation' END)::char(20) AS isolation_level
    FROM pg_database WHERE datname = current_database();

-- Transactions and their locks, sessions: ordinary users see their own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_SVV_TRANSACTIONS.html
CREATE OR REPLACE VIEW standin.svv_transactions AS
    SELECT a.usename::text AS txn_owner, a.datname::text AS txn_db,
        coalesce(a.backend_xid::text, split_part(l.virtualtransaction, '/', 2))::bigint AS xid, l.pid,
        a.xact_start AT TIME ZONE 'utc' AS txn_start, l.mode AS lock_mode,
        CASE l.locktype WHEN 'virtualxid' THEN 'transactionid' ELSE l.locktype END AS lockable_object_type,
        l.relation::int AS relation, l.granted
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE a.usename = current_user AND a.datname = current_database()
        AND (l.locktype = 'virtualxid' OR (l.locktype = 'relation' AND l.relation >= 16384));
-- https://docs.aws.amazon.com/redshift/latest/dg/r_STV_SESSIONS.html
CREATE OR REPLACE VIEW standin.stv_sessions AS
    SELECT backend_start AT TIME ZONE 'utc' AS starttime, pid AS process, usename::char(50) AS user_name,
        datname::char(50) AS db_name, 0 AS timeout_sec
    FROM pg_stat_activity WHERE usename = current_user AND backend_type = 'client backend';
-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_SESSION_HISTORY.html ; of the sessions that ended it knows none.
CREATE OR REPLACE VIEW standin.sys_session_history AS
    SELECT usesysid::text::char(50) AS user_id, pid AS session_id, datname::char(50) AS database_name,
        'active'::char(16) AS status, 0 AS session_timeout, backend_start AT TIME ZONE 'utc' AS start_time,
        NULL::timestamp AS end_time
    FROM pg_stat_activity WHERE usename = current_user AND backend_type = 'client backend';
-- One's own sessions only: https://docs.aws.amazon.com/redshift/latest/dg/PG_TERMINATE_BACKEND.html . It answers
-- nothing, also when there is no such session.
CREATE OR REPLACE FUNCTION standin.pg_terminate_backend(process int) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE owner text;
    BEGIN
        SELECT usename INTO owner FROM pg_stat_activity WHERE pid = process AND backend_type = 'client backend';
        IF owner IS NULL THEN
            RAISE WARNING 'PID % is not a PostgreSQL server process', process;
        ELSIF owner <> current_user THEN
            RAISE EXCEPTION 'must be superuser to terminate other server processes' USING ERRCODE = '42501';
        ELSE
            PERFORM pg_catalog.pg_terminate_backend(process);
        END IF;
    END $$;
CREATE OR REPLACE FUNCTION standin.make_user(name text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(1130);
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I SUPERUSER LOGIN', name);
        END IF;
    END $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html . Roles are superusers here only because PostgreSQL
-- would ask for more than Redshift does: the right to alter is the owner's.
CREATE OR REPLACE FUNCTION standin.must_own(of_schema text, of_table text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT 1 FROM pg_class
            WHERE oid = to_regclass(format('%I.%I', of_schema, of_table)) AND pg_get_userbyid(relowner) <> current_user
        ) THEN
            RAISE EXCEPTION 'must be owner of relation %', of_table USING ERRCODE = '42501';
        END IF;
    END $$;

-- Where a name without a schema leads: a temporary table of the session hides another of its name.
CREATE OR REPLACE FUNCTION standin.is_temporary(name text) RETURNS boolean LANGUAGE sql AS
    $$ SELECT to_regclass('pg_temp.' || quote_ident(name)) IS NOT NULL $$;
CREATE OR REPLACE FUNCTION standin.columns_of(of_schema text, of_table text, bare boolean)
    RETURNS TABLE (column_name text, redshift_type text, not_null boolean, oid oid, home text) LANGUAGE plpgsql AS $$
    DECLARE
        catalog text := 'standin.columns';
        place text := of_schema;
    BEGIN
        IF bare AND standin.is_temporary(of_table) THEN
            catalog := 'pg_temp.standin_columns';
            place := 'pg_temp';
        END IF;
        RETURN QUERY EXECUTE format(
            'SELECT column_name, redshift_type, not_null, to_regclass(%L)::oid, %L::text FROM %s
                WHERE table_schema = %L AND table_name = %L ORDER BY ordinal',
            format('%I.%I', place, of_table), place, catalog, place, of_table);
    END $$;
CREATE OR REPLACE FUNCTION standin.drop_table(
    of_schema text, of_table text, bare boolean, may_miss boolean, with_dependents boolean
) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        catalog text := 'standin.columns';
        place text := of_schema;
    BEGIN
        IF bare AND standin.is_temporary(of_table) THEN
            catalog := 'pg_temp.standin_columns';
            place := 'pg_temp';
        END IF;
        EXECUTE format('DROP TABLE %s %I.%I %s', CASE WHEN may_miss THEN 'IF EXISTS' END, place, of_table,
            CASE WHEN with_dependents THEN 'CASCADE' END);
        EXECUTE format('DELETE FROM %s WHERE table_schema = %L AND table_name = %L', catalog, place, of_table);
    END $$;
-- Redshift skips the blocks whose least and greatest value of the sort key say that nothing wanted is in them.
CREATE OR REPLACE FUNCTION standin.keep_sorted(of_schema text, of_table text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        sorts text;
        index_name text := format('sort key of %s', to_regclass(format('%I.%I', of_schema, of_table))::oid);
    BEGIN
        SELECT c.column_name INTO sorts FROM standin.columns c
            WHERE table_schema = of_schema AND table_name = of_table AND abs(sortkey) = 1
                AND redshift_type ~ '^(smallint|integer|bigint|numeric|date|timestamp)';
        IF sorts IS NOT NULL AND EXISTS (
            SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indexrelid = to_regclass(format('%I.%I', of_schema, index_name)) AND a.attname = sorts
        ) THEN
            RETURN;
        END IF;
        EXECUTE format('DROP INDEX IF EXISTS %I.%I', of_schema, index_name);
        IF sorts IS NOT NULL THEN
            EXECUTE format('CREATE INDEX %I ON %I.%I (%I)', index_name, of_schema, of_table, sorts);
        END IF;
    END $$;

CREATE OR REPLACE VIEW standin.svv_columns AS
    SELECT current_database()::text AS table_catalog, table_schema, table_name, column_name,
        ordinal AS ordinal_position, column_default,
        CASE WHEN not_null THEN 'NO' ELSE 'YES' END AS is_nullable,
        split_part(redshift_type, '(', 1) AS data_type,
        substring(redshift_type from '^character.*\((\d+)\)')::int AS character_maximum_length,
        CASE split_part(redshift_type, '(', 1) WHEN 'smallint' THEN 16 WHEN 'integer' THEN 32
            WHEN 'bigint' THEN 64 ELSE substring(redshift_type from '^numeric\((\d+),')::int END AS numeric_precision,
        CASE WHEN redshift_type ~ '^(smallint|integer|bigint)' THEN 0
            ELSE substring(redshift_type from '^numeric\(\d+,(\d+)\)')::int END AS numeric_scale
    FROM standin.columns;
-- Only tables of the search path, which is always the default one here.
CREATE OR REPLACE VIEW standin.pg_table_def AS
    SELECT table_schema AS schemaname, table_name AS tablename, column_name AS "column", redshift_type AS type,
        encoding, distkey, sortkey, not_null AS notnull
    FROM standin.columns WHERE table_schema = 'public';
-- https://docs.aws.amazon.com/redshift/latest/dg/r_SVV_REDSHIFT_COLUMNS.html
CREATE OR REPLACE VIEW standin.svv_redshift_columns AS
    SELECT current_database()::text AS database_name, table_schema AS schema_name, table_name, column_name,
        ordinal AS ordinal_position, redshift_type AS data_type, column_default,
        CASE WHEN not_null THEN 'NO' ELSE 'YES' END AS is_nullable, encoding, distkey, sortkey,
        ''::text AS column_acl, ''::text AS remarks
    FROM standin.columns;

-- https://docs.aws.amazon.com/redshift/latest/dg/PG_LAST_COPY_COUNT.html, session scoped; the setting is rolled
-- back with the transaction that loaded, as PG_LAST_COPY_ID documents.
CREATE OR REPLACE FUNCTION standin.pg_last_copy_count() RETURNS bigint LANGUAGE sql AS
    $$ SELECT coalesce(nullif(current_setting('standin.copy_count', true), ''), '0')::bigint $$;
CREATE OR REPLACE FUNCTION standin.pg_last_copy_id() RETURNS bigint LANGUAGE sql AS
    $$ SELECT coalesce(nullif(current_setting('standin.copy_id', true), ''), '-1')::bigint $$;
CREATE OR REPLACE FUNCTION standin.getdate() RETURNS timestamp LANGUAGE sql AS
    $$ SELECT date_trunc('second', clock_timestamp() AT TIME ZONE 'utc') $$;
CREATE OR REPLACE FUNCTION standin.sysdate() RETURNS timestamp LANGUAGE sql AS
    $$ SELECT now() AT TIME ZONE 'utc' $$;
CREATE OR REPLACE FUNCTION standin.version() RETURNS text LANGUAGE sql AS
    $$ SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.99999'::text $$;
GRANT SELECT ON ALL TABLES IN SCHEMA standin TO PUBLIC;
