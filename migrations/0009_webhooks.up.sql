-- Where webhooks are received: a random path for each that a Project declares. It stays when the Project no longer declares
-- it, so that one that comes back has its path again; meanwhile nothing is received there.
CREATE TABLE webhook_receivers (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'),
    source text NOT NULL CHECK (source IN ('diun', 'dockerhub', 'github', 'harbor', 'quay', 'distribution', 'acr', 'jfrog',
                                           'cloudevents', 'gitlab', 'generic')),
    credentials text[] NOT NULL DEFAULT '{}' CHECK (cardinality(credentials) <= 2),
    registry text CHECK (registry <> ''),
    token text NOT NULL CHECK (token ~ '^[A-Za-z0-9_-]{32,64}$'),
    token_hash bytea NOT NULL GENERATED ALWAYS AS (sha256(token::bytea)) STORED UNIQUE,
    old_token_hash bytea,
    old_token_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (project_id, name),
    CHECK (num_nulls(old_token_hash, old_token_until) <> 1)
);
COMMENT ON COLUMN webhook_receivers.credentials IS 'Names of the project''s credentials that deliveries are signed with, either of them';
COMMENT ON COLUMN webhook_receivers.registry IS 'What images call the registry that sends, if it does not say so itself';
COMMENT ON COLUMN webhook_receivers.old_token_hash IS 'Of the token before the last rotation, which is good until old_token_until';
CREATE UNIQUE INDEX webhook_receivers_by_old_token ON webhook_receivers (old_token_hash) WHERE old_token_hash IS NOT NULL;
CREATE TRIGGER webhook_receivers_updated_at BEFORE UPDATE ON webhook_receivers FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
-- A project's status shows its paths.
CREATE TRIGGER webhook_receivers_tell AFTER INSERT OR UPDATE ON webhook_receivers FOR EACH ROW EXECUTE FUNCTION vault_tell();

-- What was received, as it came, before it was answered. One row for each delivery, however often it came.
CREATE TABLE webhook_inbox (
    id uuid PRIMARY KEY,
    receiver_id uuid NOT NULL REFERENCES webhook_receivers (id) ON DELETE CASCADE,
    delivery text NOT NULL CHECK (delivery <> ''),
    headers jsonb NOT NULL,
    body bytea CHECK (octet_length(body) <= 1048576),
    size integer NOT NULL CHECK (size >= 0),
    state text NOT NULL CHECK (state IN ('pending', 'processed', 'ignored', 'failed')),
    result text NOT NULL DEFAULT '',
    seen integer NOT NULL DEFAULT 1 CHECK (seen > 0),
    opened integer NOT NULL DEFAULT 1 CHECK (opened > 0),
    received_at timestamptz NOT NULL,
    settled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (receiver_id, delivery),
    CHECK (state <> 'pending' OR body IS NOT NULL),
    CHECK ((state = 'pending') = (settled_at IS NULL))
);
COMMENT ON COLUMN webhook_inbox.delivery IS 'id: and what the sender calls it, or body: and the SHA-256 of its body';
COMMENT ON COLUMN webhook_inbox.headers IS 'The few that it takes to read it again; no secret';
COMMENT ON COLUMN webhook_inbox.body IS 'None once newer deliveries have taken its place';
COMMENT ON COLUMN webhook_inbox.seen IS 'How often it came';
COMMENT ON COLUMN webhook_inbox.opened IS 'How often it was worked on: the first time, when its body came again later, when somebody replayed it';
COMMENT ON COLUMN webhook_inbox.received_at IS 'When it was opened last';
CREATE INDEX webhook_inbox_pending ON webhook_inbox (received_at, id) WHERE state = 'pending';
CREATE INDEX webhook_inbox_pending_by_receiver ON webhook_inbox (receiver_id) INCLUDE (size) WHERE state = 'pending';
CREATE INDEX webhook_inbox_by_receiver ON webhook_inbox (receiver_id, received_at DESC, id DESC);
CREATE INDEX webhook_inbox_by_age ON webhook_inbox (settled_at, id) WHERE settled_at IS NOT NULL;

-- The leader hears of work when it is committed.
CREATE FUNCTION inbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', 'inbox');
    RETURN NULL;
END
$$;
CREATE TRIGGER webhook_inbox_put_tell AFTER INSERT ON webhook_inbox FOR EACH ROW
    WHEN (NEW.state = 'pending') EXECUTE FUNCTION inbox_tell();
CREATE TRIGGER webhook_inbox_open_tell AFTER UPDATE ON webhook_inbox FOR EACH ROW
    WHEN (NEW.state = 'pending' AND NEW.opened <> OLD.opened) EXECUTE FUNCTION inbox_tell();
