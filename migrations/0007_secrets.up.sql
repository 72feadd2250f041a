-- What a project's workloads get: values by name, for all services ('') or for one. The row is the name and who wrote it
-- last; each value is a row of its own below it, so that a deploy can ask for the version it was made with.
CREATE TABLE secrets (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    service text NOT NULL DEFAULT '' CHECK (service ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$'),
    name text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,127}$'),
    version bigint NOT NULL CHECK (version > 0),
    origin text NOT NULL CHECK (origin <> ''),
    created_by text NOT NULL CHECK (created_by <> ''),
    updated_by text NOT NULL CHECK (updated_by <> ''),
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, service, name)
);
COMMENT ON COLUMN secrets.service IS 'The one service that it is for; empty for all of them';
COMMENT ON COLUMN secrets.version IS 'How many times it was written';
CREATE TRIGGER secrets_updated_at BEFORE UPDATE ON secrets FOR EACH ROW
    WHEN (OLD.version IS DISTINCT FROM NEW.version OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
    EXECUTE FUNCTION updated_at_touch();

-- Deleting a secret takes what was sealed out of every version and keeps who wrote it and when.
CREATE TABLE secret_versions (
    id uuid PRIMARY KEY,
    secret_id uuid NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    version bigint NOT NULL CHECK (version > 0),
    key_id text REFERENCES encryption_keys (id),
    wrapped_key bytea,
    body bytea CHECK (octet_length(body) BETWEEN 77 AND 77 + 1048576),
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (secret_id, version),
    CHECK (num_nulls(key_id, wrapped_key, body) IN (0, 3))
);
COMMENT ON COLUMN secret_versions.id IS 'Part of what the sealed value is bound to, with version, project and name';
-- Rotation goes through the rows of a key in order, and a key is retired when it has none.
CREATE INDEX secret_versions_by_key ON secret_versions (key_id, id);
CREATE TRIGGER secret_versions_live_key BEFORE INSERT OR UPDATE OF key_id ON secret_versions FOR EACH ROW
    WHEN (NEW.key_id IS NOT NULL) EXECUTE FUNCTION sealed_with_live_key();

-- Each time a secret was opened, by whom and what for.
CREATE TABLE secret_uses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret_id uuid NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    actor text NOT NULL CHECK (actor <> ''),
    purpose text NOT NULL CHECK (purpose <> ''),
    at timestamptz NOT NULL
);
CREATE INDEX secret_uses_by_secret ON secret_uses (secret_id, id DESC);
CREATE TRIGGER secret_uses_append_only BEFORE UPDATE ON secret_uses FOR EACH ROW EXECUTE FUNCTION append_only();
-- The oldest go first.
CREATE INDEX secret_uses_by_age ON secret_uses (at, id);
CREATE INDEX credential_uses_by_age ON credential_uses (at, id);

-- How registries are spoken to, for whole installations: what no Project should say for itself.
CREATE TABLE registries (
    host text PRIMARY KEY CHECK (host ~ '^[a-z0-9.-]+(:[0-9]{1,5})?$'),
    insecure boolean NOT NULL DEFAULT false,
    ca_pem text CHECK (ca_pem <> ''),
    requests_per_second double precision CHECK (requests_per_second > 0 AND requests_per_second < 'Infinity'),
    token_realms text[] NOT NULL DEFAULT '{}',
    updated_by text NOT NULL CHECK (updated_by <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN registries.insecure IS 'Plain HTTP is spoken';
COMMENT ON COLUMN registries.ca_pem IS 'Certificates that are trusted for this registry besides those of the machine';
COMMENT ON COLUMN registries.token_realms IS 'Other hosts that its login may be sent to for a token, as HOST[:PORT]';
CREATE TRIGGER registries_updated_at BEFORE UPDATE ON registries FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Whoever remembers versions hears of every change when it is committed: the project's id, or the word registries. Using a
-- value changes nothing.
CREATE FUNCTION vault_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', NEW.project_id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER credentials_put_tell AFTER INSERT ON credentials FOR EACH ROW EXECUTE FUNCTION vault_tell();
CREATE TRIGGER credentials_change_tell AFTER UPDATE ON credentials FOR EACH ROW
    WHEN ((OLD.version, OLD.deleted_at, OLD.origin) IS DISTINCT FROM (NEW.version, NEW.deleted_at, NEW.origin))
    EXECUTE FUNCTION vault_tell();
CREATE TRIGGER secrets_put_tell AFTER INSERT ON secrets FOR EACH ROW EXECUTE FUNCTION vault_tell();
CREATE TRIGGER secrets_change_tell AFTER UPDATE ON secrets FOR EACH ROW
    WHEN ((OLD.version, OLD.deleted_at, OLD.origin) IS DISTINCT FROM (NEW.version, NEW.deleted_at, NEW.origin))
    EXECUTE FUNCTION vault_tell();

-- A project that comes back brings its credentials and secrets along, one that goes takes them.
CREATE FUNCTION vault_tell_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', coalesce(NEW.id, OLD.id)::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER projects_come_and_go_tell AFTER INSERT OR DELETE ON projects FOR EACH ROW EXECUTE FUNCTION vault_tell_project();
CREATE TRIGGER projects_change_tell AFTER UPDATE ON projects FOR EACH ROW
    WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) EXECUTE FUNCTION vault_tell_project();

-- For each row, so that a statement without an effect says nothing; Postgres sends equal words of a transaction once.
CREATE FUNCTION vault_tell_registries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', 'registries');
    RETURN NULL;
END
$$;
CREATE TRIGGER registries_tell AFTER INSERT OR UPDATE OR DELETE ON registries FOR EACH ROW
    EXECUTE FUNCTION vault_tell_registries();
