-- What registries answered last, one row per question, so that a new leader need not ask everything again. Written when an
-- answer changes and when an error comes or goes; otherwise the time of the scan is brought up to date about once an hour.
CREATE TABLE image_scans (
    key text PRIMARY KEY CHECK (key ~ '^[0-9a-f]{64}$'),
    repository text NOT NULL CHECK (repository <> ''),
    login text CHECK (login <> ''),
    about text NOT NULL CHECK (about IN ('tags', 'tag', 'dates')),
    tag text CHECK (tag <> ''),
    platform text CHECK (platform <> ''),
    tags text,
    accepted text,
    accepts bigint NOT NULL DEFAULT 0 CHECK (accepts >= 0),
    validator text,
    digest text CHECK (digest <> ''),
    dates jsonb,
    since timestamptz,
    reason text CHECK (reason <> ''),
    message text,
    transient boolean NOT NULL DEFAULT false,
    scanned_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((about = 'tag') = (tag IS NOT NULL)),
    CHECK (num_nonnulls(tags, digest, dates) <= 1),
    CHECK (accepted IS NULL OR tags IS NOT NULL)
);
COMMENT ON COLUMN image_scans.key IS 'Hash of the question: repository, login, what was asked';
COMMENT ON COLUMN image_scans.login IS 'NAMESPACE/PROJECT/CREDENTIAL with which it was asked; null when nobody in particular asked';
COMMENT ON COLUMN image_scans.tags IS 'The last complete listing, one tag a line';
COMMENT ON COLUMN image_scans.accepted IS 'The listing before too many tags were gone, one tag a line: nothing is chosen until they are back or somebody accepts it. Null when the last listing is believed';
COMMENT ON COLUMN image_scans.accepts IS 'How many times somebody accepted a listing';
COMMENT ON COLUMN image_scans.validator IS 'What the registry calls its listing (ETag)';
COMMENT ON COLUMN image_scans.reason IS 'Why the last scan failed; null when it did not';
-- The latest are read first, the oldest go first.
CREATE INDEX image_scans_by_age ON image_scans (scanned_at);
CREATE INDEX image_scans_by_repository ON image_scans (repository);
CREATE TRIGGER image_scans_updated_at BEFORE UPDATE ON image_scans FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- The leader hears of a listing that a person accepted.
CREATE FUNCTION image_scans_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', 'scan ' || NEW.key);
    RETURN NULL;
END
$$;
CREATE TRIGGER image_scans_accept_tell AFTER UPDATE ON image_scans FOR EACH ROW
    WHEN (OLD.accepts IS DISTINCT FROM NEW.accepts) EXECUTE FUNCTION image_scans_tell();
