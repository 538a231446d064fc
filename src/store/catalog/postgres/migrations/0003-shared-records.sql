-- Version 3: records by which the servers of one store coordinate: tokens, operations, events, leases.
--
-- Nothing about images depends on them; all of them may be deleted at any time.

CREATE SEQUENCE shared_revision;

CREATE TABLE shared_record (
    kind text COLLATE "C" NOT NULL CHECK (kind <> ''),
    id text COLLATE "C" NOT NULL CHECK (id <> ''),
    value text NOT NULL,
    revision bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE INDEX shared_record_revision ON shared_record (revision);
CREATE INDEX shared_record_expires_at ON shared_record (expires_at);
