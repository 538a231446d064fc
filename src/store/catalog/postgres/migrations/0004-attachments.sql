-- Version 4: texts that are kept beside images, such as statements about them.

CREATE TABLE attachment (
    fingerprint text COLLATE "C" NOT NULL REFERENCES image (fingerprint) ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    content text NOT NULL,
    added_at bigint NOT NULL,
    PRIMARY KEY (fingerprint, name)
);

CREATE TRIGGER change_attachment AFTER INSERT OR UPDATE OR DELETE ON attachment
    FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER change_attachment_truncated AFTER TRUNCATE ON attachment
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
