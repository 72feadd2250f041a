-- The update list: newer images than what runs somewhere. One row for each thing that is followed, each place where it
-- runs and each platform; a newer image than the one in the row takes its place and opens the row again. People write the
-- numbers of rows on command lines, so they are small numbers.
CREATE TABLE image_updates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image text NOT NULL CHECK (image <> ''),
    host text NOT NULL,
    platform text NOT NULL,
    tag text CHECK (tag <> ''),
    old_digest text CHECK (old_digest ~ '^sha256:[0-9a-f]{64}$'),
    new_digest text NOT NULL CHECK (new_digest ~ '^sha256:[0-9a-f]{64}$'),
    built_at timestamptz,
    provider text NOT NULL,
    link text CHECK (link ~* '^https?://'),
    seen_by text NOT NULL CHECK (seen_by ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    acknowledged_digest text CHECK (acknowledged_digest ~ '^sha256:[0-9a-f]{64}$'),
    acknowledged_by text CHECK (acknowledged_by ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    acknowledged_at timestamptz,
    pending boolean NOT NULL GENERATED ALWAYS AS (acknowledged_digest IS DISTINCT FROM new_digest) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (image, host, platform),
    CHECK (num_nulls(acknowledged_digest, acknowledged_by, acknowledged_at) IN (0, 3))
);
COMMENT ON COLUMN image_updates.image IS 'A repository where a policy chooses among its tags; repository:tag where one tag is followed';
COMMENT ON COLUMN image_updates.host IS 'NAMESPACE/STAGE, or the host that a sender names; empty when nobody said';
COMMENT ON COLUMN image_updates.first_seen_at IS 'When the new digest was seen first';
COMMENT ON COLUMN image_updates.last_seen_at IS 'When the new digest was seen last, no finer than an hour';
COMMENT ON COLUMN image_updates.acknowledged_digest IS 'What was acknowledged last: the same digest again stays acknowledged, another one opens the row';
CREATE INDEX image_updates_by_age ON image_updates (first_seen_at, id);
CREATE INDEX image_updates_pending ON image_updates (first_seen_at, id) WHERE pending;
CREATE INDEX image_updates_by_host ON image_updates (host, first_seen_at, id);
CREATE TRIGGER image_updates_updated_at BEFORE UPDATE ON image_updates FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Words by which people group updates. They belong to a row, whatever digest it has.
CREATE TABLE update_tags (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name ~ '^[A-Za-z0-9]([A-Za-z0-9_./-]{0,62}[A-Za-z0-9])?$'),
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- `Backend` and `backend` are one name.
CREATE UNIQUE INDEX update_tags_by_name ON update_tags (lower(name));
CREATE TRIGGER update_tags_updated_at BEFORE UPDATE ON update_tags FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

CREATE TABLE tag_assignments (
    tag_id bigint NOT NULL REFERENCES update_tags (id) ON DELETE CASCADE,
    update_id bigint NOT NULL REFERENCES image_updates (id) ON DELETE CASCADE,
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tag_id, update_id)
);
CREATE INDEX tag_assignments_by_update ON tag_assignments (update_id);
