-- Group actions: what was asked of several stages of a namespace at once. Nothing wrote this table before.
ALTER TABLE deploy_groups
    ADD COLUMN namespace text NOT NULL CHECK (namespace <> ''),
    ADD COLUMN action jsonb NOT NULL CHECK (action ->> 'action' IN ('promote', 'rollback'));
COMMENT ON COLUMN deploy_groups.started_at IS 'When all of them left pending; NULL while they wait, and for ever if they never do';
CREATE INDEX deploy_groups_by_namespace ON deploy_groups (namespace, at, id);
