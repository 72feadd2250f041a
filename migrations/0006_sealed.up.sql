-- The keys that wrap data keys, by id: never the keys themselves. Each has a canary, a sealed value that only the right
-- key opens: a process that was given another key under a known id finds out before it writes anything.
CREATE TABLE encryption_keys (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    canary_wrapped bytea NOT NULL CHECK (octet_length(canary_wrapped) > 0),
    canary_body bytea NOT NULL CHECK (octet_length(canary_body) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON COLUMN encryption_keys.retired_at IS 'No row uses it any more, and none may: an id is never given to another key';

-- What Stagekeeper itself logs in with. Deleting takes what was sealed along and keeps who had it and when.
CREATE TABLE credentials (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    kind text NOT NULL CHECK (kind IN ('registry', 'webhook', 'git', 'cluster', 'generic')),
    version bigint NOT NULL CHECK (version > 0),
    key_id text REFERENCES encryption_keys (id),
    wrapped_key bytea,
    body bytea CHECK (octet_length(body) BETWEEN 77 AND 77 + 1048576),
    hosts text[] NOT NULL DEFAULT '{}',
    origin text NOT NULL CHECK (origin <> ''),
    expires_at timestamptz,
    created_by text NOT NULL CHECK (created_by <> ''),
    updated_by text NOT NULL CHECK (updated_by <> ''),
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, name),
    CHECK (num_nulls(key_id, wrapped_key, body) = CASE WHEN deleted_at IS NULL THEN 0 ELSE 3 END)
);
COMMENT ON COLUMN credentials.version IS 'How many times it was written; part of what the sealed value is bound to';
COMMENT ON COLUMN credentials.hosts IS 'Registries that it is for, as HOST[:PORT]; no secret';
COMMENT ON COLUMN credentials.origin IS 'Where the value came from: command line, or secret/NAME uid/UID version/RESOURCEVERSION';
-- Rotation goes through the rows of a key in order, and a key is retired when it has none.
CREATE INDEX credentials_by_key ON credentials (key_id, id);
CREATE TRIGGER credentials_updated_at BEFORE UPDATE ON credentials FOR EACH ROW
    WHEN (OLD.version IS DISTINCT FROM NEW.version OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
    EXECUTE FUNCTION updated_at_touch();

-- No row may begin to use a key that was retired, whichever process still has it.
CREATE FUNCTION sealed_with_live_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Waits for whoever is retiring the key, and is waited for.
    retired timestamptz := (SELECT known.retired_at FROM encryption_keys AS known WHERE known.id = NEW.key_id FOR KEY SHARE);
BEGIN
    IF retired IS NOT NULL THEN
        RAISE EXCEPTION 'key % is retired', NEW.key_id USING ERRCODE = 'SK002';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credentials_live_key BEFORE INSERT OR UPDATE OF key_id ON credentials FOR EACH ROW
    WHEN (NEW.key_id IS NOT NULL) EXECUTE FUNCTION sealed_with_live_key();

-- Each time a credential was opened, by whom and what for.
CREATE TABLE credential_uses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    credential_id uuid NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    actor text NOT NULL CHECK (actor <> ''),
    purpose text NOT NULL CHECK (purpose <> ''),
    at timestamptz NOT NULL
);
CREATE INDEX credential_uses_by_credential ON credential_uses (credential_id, id DESC);
CREATE TRIGGER credential_uses_append_only BEFORE UPDATE ON credential_uses FOR EACH ROW EXECUTE FUNCTION append_only();
