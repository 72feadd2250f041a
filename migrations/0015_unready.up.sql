-- When what serves a target lost its readiness last, and when it was back: a soak counts from there. A row for each deploy
-- to which that ever happened.
CREATE TABLE unready (
    deploy_id uuid PRIMARY KEY REFERENCES deploys (id) ON DELETE CASCADE,
    since timestamptz NOT NULL,
    until timestamptz CHECK (until >= since)
);
COMMENT ON COLUMN unready.until IS 'NULL while it is not back';
