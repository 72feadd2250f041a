-- What was seen while a deploy ran: hook output, pod events, container lines, probe answers. One partition a month
-- (UTC), made ahead; the default partition takes what falls outside, so that no line is ever lost.
CREATE SEQUENCE deploy_logs_position;

CREATE TABLE deploy_logs (
    deploy_id uuid NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,
    position bigint NOT NULL DEFAULT nextval('deploy_logs_position'),
    at timestamptz NOT NULL,
    source text NOT NULL CHECK (source <> ''),
    seq bigint NOT NULL,
    level text NOT NULL CHECK (level IN ('debug', 'info', 'warn', 'error')),
    line text NOT NULL,
    search tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', line)) STORED,
    PRIMARY KEY (deploy_id, source, seq, at)
) PARTITION BY RANGE (at);
COMMENT ON COLUMN deploy_logs.position IS 'Order of arrival: what a reader that follows the log continues from';
COMMENT ON COLUMN deploy_logs.seq IS 'Number of the line in its source, given by whoever writes: the same line written again is dropped';
CREATE INDEX deploy_logs_by_deploy ON deploy_logs (deploy_id, position);
CREATE INDEX deploy_logs_by_words ON deploy_logs USING gin (search);
CREATE TABLE deploy_logs_default PARTITION OF deploy_logs DEFAULT;

-- Makes the partitions of the month of `moment` and of `ahead` months after it, as far as they are missing, and moves lines
-- that the default partition holds for them. Returns how many it made; writes and locks nothing when none is missing.
CREATE FUNCTION deploy_logs_partitions_ensure(moment timestamptz, ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', moment AT TIME ZONE 'UTC');
    part text;
    lower_end timestamptz;
    upper_end timestamptz;
    made integer := 0;
BEGIN
    FOR i IN 0..ahead LOOP
        part := 'deploy_logs_' || to_char(month + make_interval(months => i), 'YYYYMM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('deploy_logs partitions', 0));
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        lower_end := (month + make_interval(months => i)) AT TIME ZONE 'UTC';
        upper_end := (month + make_interval(months => i + 1)) AT TIME ZONE 'UTC';
        EXECUTE format('CREATE TABLE %I (LIKE deploy_logs INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)', part);
        -- No line may arrive in the default partition between the move and the attachment.
        LOCK TABLE deploy_logs_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM deploy_logs_default WHERE at >= %L AND at < %L
                RETURNING deploy_id, position, at, source, seq, level, line)
             INSERT INTO %I (deploy_id, position, at, source, seq, level, line) SELECT * FROM moved',
            lower_end, upper_end, part);
        EXECUTE format('ALTER TABLE deploy_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, lower_end, upper_end);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the partitions that end at or before `horizon` and what the default partition holds from before it. Returns how many
-- partitions went.
CREATE FUNCTION deploy_logs_prune(horizon timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT child.relname AS name
        FROM pg_inherits
        JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'deploy_logs'::regclass
            AND child.relname ~ '^deploy_logs_[0-9]{6}$'
            AND (to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC' <= horizon
    LOOP
        EXECUTE format('DROP TABLE %I', part.name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM deploy_logs_default WHERE at < horizon;
    RETURN dropped;
END
$$;

SELECT deploy_logs_partitions_ensure(now(), 2);
