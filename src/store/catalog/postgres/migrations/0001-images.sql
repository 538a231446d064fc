-- Version 1: images, aliases and notes, in the schema that is first in `search_path`. Functions keep that path.
--
-- Texts have the collation "C": their order is that of their bytes, as in every other catalog.
-- `property` and `first_alias` repeat what stands elsewhere so that an index can hold it.
-- Triggers keep them, because rows may also be changed by other programs.

-- The store that the catalog belongs to.
CREATE TABLE store (
    id text COLLATE "C" NOT NULL CHECK (id <> ''),
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);

CREATE TABLE image (
    fingerprint text COLLATE "C" PRIMARY KEY CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    type text COLLATE "C" NOT NULL CHECK (type IN ('container', 'virtual-machine')),
    architecture text COLLATE "C" NOT NULL,
    size bigint NOT NULL CHECK (size >= 0),
    rootfs_size bigint CHECK (rootfs_size >= 0),
    created_at bigint NOT NULL,
    expires_at bigint,
    uploaded_at bigint NOT NULL,
    last_used_at bigint,
    public boolean NOT NULL,
    auto_update boolean NOT NULL,
    cached boolean NOT NULL,
    file_name text COLLATE "C",
    rootfs_name text COLLATE "C",
    source text COLLATE "C",
    -- `json` keeps the order of the pairs, which `jsonb` does not.
    properties json NOT NULL CHECK (json_typeof(properties) = 'object'),
    original_properties json NOT NULL CHECK (json_typeof(original_properties) = 'object'),
    revision bigint NOT NULL CHECK (revision >= 0),
    object text COLLATE "C" NOT NULL,
    rootfs_object text COLLATE "C",
    sidecar_object text COLLATE "C",
    first_alias text COLLATE "C",
    -- The target of the foreign key of `alias`: an alias has the type of its image.
    UNIQUE (fingerprint, type)
);

CREATE TABLE alias (
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    type text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, type),
    FOREIGN KEY (target, type) REFERENCES image (fingerprint, type) ON DELETE CASCADE ON UPDATE CASCADE
);

-- The properties of images by the sha256 of key and value: a value may be longer than an entry of an index can be.
CREATE TABLE property (
    hash bytea NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    PRIMARY KEY (hash, fingerprint)
);

-- Notes about objects that no image names.
CREATE TABLE object (
    key text COLLATE "C" PRIMARY KEY,
    fingerprint text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('uploading', 'sidecar', 'dead')),
    holder text COLLATE "C",
    revision bigint CHECK (revision >= 0),
    time bigint,
    CHECK (state <> 'uploading' OR (holder IS NOT NULL AND time IS NOT NULL)),
    CHECK (state <> 'sidecar' OR revision IS NOT NULL),
    CHECK (state <> 'dead' OR time IS NOT NULL)
);

CREATE INDEX image_type ON image (type, fingerprint) INCLUDE (size);
CREATE INDEX image_architecture ON image (architecture, fingerprint) INCLUDE (size);
CREATE INDEX image_size ON image (size, fingerprint);
CREATE INDEX image_public ON image (public, fingerprint) INCLUDE (size);
CREATE INDEX image_auto_update ON image (auto_update, fingerprint) INCLUDE (size);
CREATE INDEX image_cached ON image (cached, fingerprint) INCLUDE (size);
CREATE INDEX image_alias ON image (first_alias, fingerprint);
CREATE INDEX image_public_alias ON image (public, first_alias, fingerprint);
CREATE INDEX alias_type ON alias (type, name);
CREATE INDEX alias_target ON alias (target, name) INCLUDE (description);

-- The hashes of properties, as the library computes them for a query. NUL is in no key and in no value.
CREATE FUNCTION property_hashes(properties json) RETURNS SETOF bytea STABLE LANGUAGE sql AS $$
    SELECT sha256(convert_to(key, 'UTF8') || '\x00'::bytea || convert_to(value #>> '{}', 'UTF8'))
    FROM json_each(properties) WHERE json_typeof(value) = 'string'
$$;

-- An image is inserted before its aliases, whatever row of another image it was copied from.
CREATE FUNCTION image_before_insert() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.first_alias := NULL;
    RETURN NEW;
END
$$;

CREATE FUNCTION image_properties() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM property
            WHERE hash IN (SELECT property_hashes(OLD.properties)) AND fingerprint = OLD.fingerprint;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO property SELECT hash, NEW.fingerprint
            FROM property_hashes(NEW.properties) AS hash ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

-- Locks the image before it looks at its aliases: of two transactions that change aliases of one image, the second sees
-- what the first one did.
CREATE FUNCTION set_first_alias(wanted text) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    lowest text;
BEGIN
    PERFORM 1 FROM image WHERE fingerprint = wanted FOR NO KEY UPDATE;
    SELECT min(name) INTO lowest FROM alias WHERE target = wanted;
    UPDATE image SET first_alias = lowest WHERE fingerprint = wanted AND first_alias IS DISTINCT FROM lowest;
END
$$;

CREATE FUNCTION alias_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM set_first_alias(OLD.target);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.target <> NEW.target) THEN
        PERFORM set_first_alias(NEW.target);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION image_truncated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM property;
    RETURN NULL;
END
$$;

CREATE TRIGGER image_before_insert BEFORE INSERT ON image
    FOR EACH ROW EXECUTE FUNCTION image_before_insert();
CREATE TRIGGER image_properties AFTER INSERT OR DELETE ON image
    FOR EACH ROW EXECUTE FUNCTION image_properties();
CREATE TRIGGER image_properties_changed AFTER UPDATE OF fingerprint, properties ON image
    FOR EACH ROW WHEN (OLD.fingerprint <> NEW.fingerprint OR OLD.properties::text <> NEW.properties::text)
    EXECUTE FUNCTION image_properties();
CREATE TRIGGER image_truncated AFTER TRUNCATE ON image
    FOR EACH STATEMENT EXECUTE FUNCTION image_truncated();
CREATE TRIGGER alias_changed AFTER INSERT OR UPDATE OR DELETE ON alias
    FOR EACH ROW EXECUTE FUNCTION alias_changed();
