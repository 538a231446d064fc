-- Version 2: which transactions changed images, and which ones a client committed.

-- One row for each transaction that changed images or aliases. A counter in one row would make all writers wait for
-- each other. Rows of an hour ago are deleted.
CREATE TABLE change (
    xid xid8 PRIMARY KEY,
    -- Numbers of transactions come again when an older state of the database is restored; this does not.
    nonce bigint NOT NULL,
    at timestamptz NOT NULL
);

-- One row for each transaction that a client committed, under a random number: if the answer is lost, the client
-- looks here. Rows of an hour ago are deleted.
CREATE TABLE commit_log (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE INDEX change_at ON change (at);
CREATE INDEX commit_log_at ON commit_log (at);

-- Notes the transaction in `change`, once. A number that is there already comes from a restored database.
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    own xid8 := pg_current_xact_id();
BEGIN
    IF current_setting('lxd_image.change', true) IS DISTINCT FROM TG_TABLE_SCHEMA || own::text THEN
        INSERT INTO change VALUES (own, hashtextextended(gen_random_uuid()::text, 0), clock_timestamp())
            ON CONFLICT (xid) DO UPDATE SET nonce = EXCLUDED.nonce, at = EXCLUDED.at;
        PERFORM set_config('lxd_image.change', TG_TABLE_SCHEMA || own::text, true);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER change_image AFTER INSERT OR DELETE ON image
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER change_image_updated AFTER UPDATE OF fingerprint, type, architecture, size, rootfs_size, created_at,
    expires_at, uploaded_at, last_used_at, public, auto_update, cached, file_name, rootfs_name, source, properties,
    original_properties, revision ON image
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER change_image_truncated AFTER TRUNCATE ON image
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
CREATE TRIGGER change_alias AFTER INSERT OR UPDATE OR DELETE ON alias
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER change_alias_truncated AFTER TRUNCATE ON alias
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
