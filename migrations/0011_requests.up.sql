-- What people ask of stages. Whoever takes a request writes it down together with its audit entry; the leader acts on it and
-- settles it in the same statement as its effect, so that it is done once.
CREATE TABLE requests (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    action jsonb NOT NULL CHECK (jsonb_typeof(action -> 'action') = 'string'),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    groups text[] NOT NULL DEFAULT '{}',
    reason text NOT NULL,
    via text NOT NULL CHECK (via IN ('api', 'cli', 'annotation')),
    verified boolean NOT NULL,
    source text,
    caller_id text,
    idempotency_key text CHECK (idempotency_key <> ''),
    group_id uuid,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'refused')),
    message text,
    deploy_id uuid REFERENCES deploys (id) ON DELETE SET NULL,
    at timestamptz NOT NULL,
    settled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'pending') = (settled_at IS NULL))
);
COMMENT ON COLUMN requests.groups IS 'The groups of whoever asked, as authentication said: approvals count by them';
COMMENT ON COLUMN requests.verified IS 'Whether it is certain that the actor asked';
COMMENT ON COLUMN requests.source IS 'The address that it came from';
COMMENT ON COLUMN requests.caller_id IS 'What the caller, or the port, calls it: X-Request-Id';
CREATE INDEX requests_pending ON requests (id) WHERE state = 'pending';
CREATE INDEX requests_by_target ON requests (target_id, at, id);
CREATE INDEX requests_by_deploy ON requests (deploy_id) WHERE deploy_id IS NOT NULL;
CREATE INDEX requests_by_group ON requests (group_id) WHERE group_id IS NOT NULL;
CREATE UNIQUE INDEX requests_by_key ON requests (actor, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TRIGGER requests_updated_at BEFORE UPDATE ON requests FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- The leader hears of a request when it is committed, and whoever waits for it hears when it is settled.
CREATE FUNCTION requests_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM pg_notify('stagekeeper_vault', 'requests');
    ELSE
        PERFORM pg_notify('stagekeeper_requests', NEW.id::text);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER requests_made_tell AFTER INSERT ON requests FOR EACH ROW EXECUTE FUNCTION requests_tell();
CREATE TRIGGER requests_settled_tell AFTER UPDATE ON requests FOR EACH ROW
    WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION requests_tell();

-- What keeps policies away from a target: one for each owner at a time. A hold that a rollback made knows what was left, so
-- that something newer than that may come again.
CREATE TABLE holds (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    owner text NOT NULL CHECK (owner <> ''),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    reason text NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz,
    from_images jsonb CHECK (jsonb_typeof(from_images) = 'object'),
    settled_on text,
    declared jsonb CHECK (jsonb_typeof(declared) = 'object'),
    lifted_at timestamptz,
    lifted_by text CHECK (lifted_by ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    lifted_because text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
COMMENT ON COLUMN holds.from_images IS 'The release that was left, where going back made the hold';
COMMENT ON COLUMN holds.settled_on IS 'Hash of the snapshot that the declarations made of the release gone back to, when the hold was made: as long as they make the same, nothing has been asked for since';
COMMENT ON COLUMN holds.declared IS 'Tags and digests that were declared for services when the hold was made: other ones are a wish of their own';
CREATE UNIQUE INDEX holds_one_active ON holds (target_id, owner) WHERE lifted_at IS NULL;
CREATE INDEX holds_by_target ON holds (target_id, at);
CREATE TRIGGER holds_updated_at BEFORE UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Who agreed that a release may come to a target. Bound to the digests: a moved tag makes another release.
CREATE TABLE approvals (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    release_id text NOT NULL CHECK (release_id ~ '^[0-9a-f]{64}$'),
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    groups text[] NOT NULL DEFAULT '{}',
    verified boolean NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz,
    withdrawn_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX approvals_one_active ON approvals (target_id, release_id, actor) WHERE withdrawn_at IS NULL;
CREATE INDEX approvals_by_target ON approvals (target_id, at);
CREATE TRIGGER approvals_updated_at BEFORE UPDATE ON approvals FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Several deploys that are one action: they leave pending together or not at all.
CREATE TABLE deploy_groups (
    id uuid PRIMARY KEY,
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    reason text NOT NULL,
    on_failure text NOT NULL CHECK (on_failure IN ('keep', 'rollback')),
    size integer NOT NULL CHECK (size > 1),
    at timestamptz NOT NULL,
    started_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN deploy_groups.on_failure IS 'What becomes of the others when one of them fails';
CREATE TRIGGER deploy_groups_updated_at BEFORE UPDATE ON deploy_groups FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
ALTER TABLE requests ADD FOREIGN KEY (group_id) REFERENCES deploy_groups (id) ON DELETE SET NULL;

ALTER TABLE deploys
    ADD COLUMN retry_of uuid REFERENCES deploys (id) ON DELETE SET NULL,
    ADD COLUMN promoted_from uuid REFERENCES deploys (id) ON DELETE SET NULL,
    ADD COLUMN superseded_by uuid REFERENCES deploys (id) ON DELETE SET NULL,
    ADD COLUMN group_id uuid REFERENCES deploy_groups (id) ON DELETE SET NULL,
    ADD COLUMN emergency boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN deploys.retry_of IS 'The failed deploy that was asked to be tried again';
COMMENT ON COLUMN deploys.promoted_from IS 'The deploy of the stage before that proved the release';
COMMENT ON COLUMN deploys.superseded_by IS 'The newer deploy that took its place';
COMMENT ON COLUMN deploys.emergency IS 'Soak, approvals and windows are passed over; the cause says why';
CREATE INDEX deploys_by_retry ON deploys (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX deploys_by_promotion ON deploys (promoted_from) WHERE promoted_from IS NOT NULL;
CREATE INDEX deploys_by_superseder ON deploys (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX deploys_by_group ON deploys (group_id) WHERE group_id IS NOT NULL;
-- When a release first succeeded on a target, and when the next one did.
CREATE INDEX deploys_proven ON deploys (target_id, release_id, finished_at) WHERE state = 'success';

-- A veto by hand may be about a release that never came.
ALTER TABLE vetoes ALTER COLUMN deploy_id DROP NOT NULL;
