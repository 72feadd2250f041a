-- What people ask about history: which stages ever ran an image, what ran at an instant, how well delivery goes, who did
-- what, and who was seen.

-- A release has its digests for ever, so they are indexed there and not with each of its deploys.
CREATE FUNCTION image_digests(images jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(image ->> 'digest') FROM jsonb_each(images) AS i (service, image)
$$;
CREATE INDEX releases_by_digest ON releases USING gin (image_digests(images));
-- The deploys of a release, newest first, and its first one.
DROP INDEX deploys_by_release;
CREATE INDEX deploys_by_release ON deploys (project_id, release_id, created_at, id);
-- How deploys of a target ended, in the order in which they did: what served at an instant is the last success before it.
CREATE INDEX deploys_ended ON deploys (target_id, finished_at, sequence) WHERE state IN ('success', 'failed', 'rolled_back');

-- One row for each deploy that was to change something and has ended: what DORA's four numbers are made of. Deploys that
-- undo another one are its remedy, not changes of their own.
CREATE VIEW dora_changes AS
SELECT d.id AS deploy_id, d.project_id, d.target_id, d.release_id, d.state, d.finished_at,
       failure.at AS failed_at,
       CASE
           WHEN failure.at IS NULL THEN NULL
           WHEN d.state = 'rolled_back' THEN d.finished_at
           ELSE (
               SELECT good.finished_at FROM deploys AS good
               WHERE good.target_id = d.target_id AND good.state = 'success' AND good.finished_at > failure.at
               ORDER BY good.finished_at, good.sequence LIMIT 1)
       END AS restored_at,
       CASE WHEN d.state = 'success' AND d.version > 1 AND NOT EXISTS (
               SELECT FROM deploys AS earlier
               WHERE earlier.target_id = d.target_id AND earlier.release_id = d.release_id AND earlier.state = 'success'
                   AND earlier.finished_at <= d.finished_at AND earlier.sequence < d.sequence) THEN (
               SELECT first.created_at FROM deploys AS first
               WHERE first.project_id = d.project_id AND first.release_id = d.release_id
               ORDER BY first.created_at, first.id LIMIT 1)
       END AS known_at
FROM deploys AS d CROSS JOIN LATERAL (
    SELECT CASE d.state
        WHEN 'success' THEN (
            SELECT min(undo.created_at) FROM deploys AS undo
            WHERE undo.rollback_of = d.id AND undo.state NOT IN ('superseded', 'aborted'))
        ELSE (
            SELECT max(t.at) FROM deploy_transitions AS t WHERE t.deploy_id = d.id AND t.to_state = 'failed')
    END AS at) AS failure
WHERE d.state IN ('success', 'failed', 'rolled_back') AND d.finished_at IS NOT NULL AND d.rollback_of IS NULL;
COMMENT ON VIEW dora_changes IS 'Deploys that ended as success, failed or rolled_back, without those that undo another';
COMMENT ON COLUMN dora_changes.failed_at IS 'When the deploy failed, or when the deploy was made that undoes it; null for one that did well';
COMMENT ON COLUMN dora_changes.restored_at IS 'When the last good release served again: the end of a rollback, else the next success on the same stage';
COMMENT ON COLUMN dora_changes.known_at IS 'When the project first asked for this release anywhere; null unless this is the release''s first success on this stage';

-- The same by stage and day of UTC, for dashboards.
CREATE VIEW dora_daily AS
SELECT s.namespace, p.name AS project, s.name AS stage, (c.finished_at AT TIME ZONE 'UTC')::date AS day,
       count(*) AS changes,
       count(*) FILTER (WHERE c.state = 'success') AS succeeded,
       count(c.failed_at) AS failed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM c.finished_at - c.known_at))
           AS lead_seconds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM c.restored_at - c.failed_at))
           AS restore_seconds
FROM dora_changes AS c
JOIN stages AS s ON s.id = c.target_id
JOIN projects AS p ON p.id = s.project_id
GROUP BY s.namespace, p.name, s.name, (c.finished_at AT TIME ZONE 'UTC')::date;
COMMENT ON VIEW dora_daily IS 'dora_changes by stage and day; medians in seconds';

-- Who did what, by whom, what and where. An entry is about the stage or project whose id it holds, the nearer of the two.
CREATE FUNCTION audit_place(details jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(details ->> 'target', details ->> 'project')
$$;
CREATE INDEX audit_log_by_time ON audit_log (at, seq);
CREATE INDEX audit_log_by_actor ON audit_log (actor, at, seq);
CREATE INDEX audit_log_by_action ON audit_log (action, at, seq);
CREATE INDEX audit_log_by_place ON audit_log (audit_place(details), at, seq);

-- People and service accounts as authentication named them.
CREATE TABLE users (
    name text PRIMARY KEY CHECK (name <> ''),
    groups text[] NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL CHECK (last_seen_at >= first_seen_at),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN users.last_seen_at IS 'No finer than an hour';
CREATE INDEX users_by_time ON users (last_seen_at, name);
CREATE TRIGGER users_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
