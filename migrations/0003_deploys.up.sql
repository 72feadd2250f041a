-- What ran, what runs and how it came to be.

CREATE TABLE releases (
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    id text NOT NULL CHECK (id ~ '^[0-9a-f]{64}$'),
    images jsonb NOT NULL CHECK (jsonb_typeof(images) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, id)
);
COMMENT ON TABLE releases IS 'Sets of image digests by content hash; the tags are those under which the set was seen first';

CREATE TABLE snapshots (
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    hash text NOT NULL CHECK (hash <> ''),
    content jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hash)
);
COMMENT ON TABLE snapshots IS 'Everything that deploys were rendered from, by content hash: what a rollback starts again';

CREATE TABLE deploys (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL,
    project_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    release_id text NOT NULL,
    images jsonb NOT NULL CHECK (jsonb_typeof(images) = 'object'),
    snapshot_hash text NOT NULL,
    instance text NOT NULL CHECK (instance <> ''),
    state text NOT NULL CHECK (state IN (
        'pending', 'pulling', 'starting', 'configuring_proxy', 'health_checking',
        'success', 'failed', 'rolled_back', 'superseded', 'aborted')),
    since timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1 CHECK (version >= 1),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    cause text NOT NULL,
    request text,
    reason text,
    message text,
    rollback_of uuid REFERENCES deploys (id) ON DELETE SET NULL,
    evidence_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (target_id, project_id) REFERENCES targets (id, project_id) ON DELETE CASCADE,
    -- Checked at commit: a purge removes releases and deploys in an order that is not ours to choose.
    FOREIGN KEY (project_id, release_id) REFERENCES releases (project_id, id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (project_id, snapshot_hash) REFERENCES snapshots (project_id, hash) DEFERRABLE INITIALLY DEFERRED,
    UNIQUE (target_id, sequence),
    CONSTRAINT deploys_finished CHECK (
        CASE
            WHEN state IN ('success', 'rolled_back', 'superseded', 'aborted') THEN finished_at IS NOT NULL
            WHEN state = 'failed' THEN true
            ELSE finished_at IS NULL
        END)
);
COMMENT ON COLUMN deploys.images IS 'The release with the tags that people saw when they asked';
COMMENT ON COLUMN deploys.request IS 'Token of the explicit request behind it, honoured once';
COMMENT ON COLUMN deploys.epoch IS 'The highest leader epoch that wrote the row; lower ones are refused';
-- The law of one past pending.
CREATE UNIQUE INDEX deploys_one_active ON deploys (target_id)
    WHERE state IN ('pulling', 'starting', 'configuring_proxy', 'health_checking');
CREATE INDEX deploys_open ON deploys (target_id, sequence) WHERE finished_at IS NULL;
CREATE INDEX deploys_good ON deploys (target_id, sequence) WHERE state = 'success';
CREATE INDEX deploys_by_age ON deploys (created_at, id);
CREATE INDEX deploys_by_project ON deploys (project_id, created_at, id);
CREATE INDEX deploys_by_target ON deploys (target_id, created_at, id);
CREATE INDEX deploys_by_release ON deploys (project_id, release_id);
CREATE INDEX deploys_by_snapshot ON deploys (project_id, snapshot_hash);
CREATE INDEX deploys_by_rollback ON deploys (rollback_of) WHERE rollback_of IS NOT NULL;
CREATE TRIGGER deploys_updated_at BEFORE UPDATE ON deploys FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Append-only. `version` is the deploy's version that the write made, `step` the place among those that one write made.
CREATE TABLE deploy_transitions (
    deploy_id uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    step integer NOT NULL CHECK (step >= 1),
    from_state text CHECK (from_state IN (
        'pending', 'pulling', 'starting', 'configuring_proxy', 'health_checking',
        'success', 'failed', 'rolled_back', 'superseded', 'aborted')),
    to_state text NOT NULL CHECK (to_state IN (
        'pending', 'pulling', 'starting', 'configuring_proxy', 'health_checking',
        'success', 'failed', 'rolled_back', 'superseded', 'aborted')),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    reason text NOT NULL CHECK (reason <> ''),
    message text NOT NULL,
    at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deploy_id, version, step)
);
-- A transition goes only with its deploy: the cascade has removed that row already when this trigger looks.
CREATE FUNCTION deploy_transitions_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM deploys WHERE id = OLD.deploy_id) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'deploy_transitions is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER deploy_transitions_append_only BEFORE UPDATE OR DELETE ON deploy_transitions
    FOR EACH ROW EXECUTE FUNCTION deploy_transitions_keep();
CREATE TRIGGER deploy_transitions_no_truncate BEFORE TRUNCATE ON deploy_transitions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Running copies of a release. What one runs is the release and snapshot of `deploy_id`.
CREATE TABLE instances (
    target_id uuid NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    deploy_id uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    status text NOT NULL CHECK (status IN ('running', 'stopped', 'failed', 'removing')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (target_id, name)
);
CREATE INDEX instances_live ON instances (target_id) WHERE deleted_at IS NULL;
CREATE INDEX instances_by_deploy ON instances (deploy_id);
CREATE TRIGGER instances_updated_at BEFORE UPDATE ON instances FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Releases that failed on a target and are not tried there again by themselves.
CREATE TABLE vetoes (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    release_id text NOT NULL,
    deploy_id uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    reason text NOT NULL CHECK (reason <> ''),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    at timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text CHECK (lifted_by ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE UNIQUE INDEX vetoes_one_active ON vetoes (target_id, release_id) WHERE lifted_at IS NULL;
CREATE INDEX vetoes_by_target ON vetoes (target_id);
CREATE INDEX vetoes_by_deploy ON vetoes (deploy_id);
CREATE TRIGGER vetoes_updated_at BEFORE UPDATE ON vetoes FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Jobs of a deploy's phases, each run once.
CREATE TABLE hook_runs (
    deploy_id uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    phase text NOT NULL CHECK (phase IN ('beforeStart', 'beforeTraffic', 'verify', 'afterSuccess')),
    name text NOT NULL CHECK (name <> ''),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    ok boolean,
    message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deploy_id, phase, name),
    CHECK ((finished_at IS NULL) = (ok IS NULL))
);
CREATE TRIGGER hook_runs_updated_at BEFORE UPDATE ON hook_runs FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
