-- Gitea and Forgejo send webhooks too.
ALTER TABLE webhook_receivers DROP CONSTRAINT webhook_receivers_source_check;
ALTER TABLE webhook_receivers ADD CONSTRAINT webhook_receivers_source_check
    CHECK (source IN ('diun', 'dockerhub', 'github', 'harbor', 'quay', 'distribution', 'acr', 'jfrog', 'cloudevents', 'gitlab',
                      'gitea', 'generic'));

-- What git providers said of pull requests. One that is closed stays for a while: a word that comes late must not open it again.
CREATE TABLE pull_requests (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    provider text NOT NULL CHECK (provider IN ('github', 'gitlab', 'gitea')),
    repository text NOT NULL CHECK (repository <> '' AND repository = lower(repository)),
    number bigint NOT NULL CHECK (number > 0),
    title text NOT NULL,
    author text NOT NULL,
    branch text NOT NULL,
    target text NOT NULL,
    head text NOT NULL CHECK (head <> ''),
    head_repository text NOT NULL,
    fork boolean NOT NULL,
    labels text[] NOT NULL,
    vouched text[] NOT NULL CHECK (vouched <@ labels),
    state text NOT NULL CHECK (state IN ('open', 'closed', 'merged')),
    told_at timestamptz NOT NULL,
    absences integer NOT NULL DEFAULT 0 CHECK (absences >= 0),
    environment text CHECK (environment <> ''),
    environment_uid text CHECK (environment_uid <> ''),
    environment_commit text CHECK (environment_commit <> ''),
    comment text CHECK (comment <> ''),
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    heard_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, provider, repository, number),
    CHECK ((environment IS NULL) = (environment_commit IS NULL)),
    CHECK (environment IS NOT NULL OR environment_uid IS NULL)
);
COMMENT ON COLUMN pull_requests.repository IS 'In lower case';
COMMENT ON COLUMN pull_requests.head IS 'The commit at the end of its branch';
COMMENT ON COLUMN pull_requests.vouched IS 'Labels that somebody else than its author is known to have set';
COMMENT ON COLUMN pull_requests.told_at IS 'When it last changed, by the provider''s clock: what is older changes nothing';
COMMENT ON COLUMN pull_requests.absences IS 'How often in a row the provider said that there is none of this number';
COMMENT ON COLUMN pull_requests.environment IS 'Name of the Environment that was made for it, or is about to be';
COMMENT ON COLUMN pull_requests.environment_uid IS 'NULL until its object was seen';
COMMENT ON COLUMN pull_requests.environment_commit IS 'The commit that it was made or last changed for';
COMMENT ON COLUMN pull_requests.comment IS 'What the provider calls our comment';
COMMENT ON COLUMN pull_requests.version IS 'Counts changes: who writes names the one that it has seen';
CREATE INDEX pull_requests_live ON pull_requests (project_id, repository, number) WHERE state = 'open' OR environment IS NOT NULL;
CREATE INDEX pull_requests_by_age ON pull_requests (heard_at, id) WHERE state <> 'open' AND environment IS NULL;
CREATE TRIGGER pull_requests_updated_at BEFORE UPDATE ON pull_requests FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- What is to be told outside, and was. One row for each thing that is told of: a later text takes the place of an earlier one.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('comment', 'status')),
    key text NOT NULL CHECK (key <> ''),
    payload jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    error text NOT NULL DEFAULT '',
    next_at timestamptz,
    sent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, key),
    CHECK (next_at IS NOT NULL OR sent_at IS NOT NULL OR error <> '')
);
COMMENT ON COLUMN outbox.key IS 'What it is about: telling it again under this key changes what was told';
COMMENT ON COLUMN outbox.version IS 'Counts texts: what was sent meanwhile of an earlier one does not count for a later';
COMMENT ON COLUMN outbox.next_at IS 'When it is tried next; NULL when it was sent, or was given up';
CREATE INDEX outbox_due ON outbox (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_by_age ON outbox (updated_at, id) WHERE next_at IS NULL;
CREATE INDEX outbox_by_project ON outbox (project_id);
CREATE TRIGGER outbox_updated_at BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
