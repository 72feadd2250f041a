-- Who did what: append-only and hash-chained. Each row's hash covers the hash before it and its own content, and
-- `audit_head` holds the last one, so that a changed, removed or cut-off row is found by walking the chain.
CREATE TABLE audit_log (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL CHECK (actor ~ '^(user:.+|webhook:.+|group|policy|controller)$'),
    action text NOT NULL CHECK (action <> ''),
    subject text NOT NULL CHECK (subject <> ''),
    details jsonb NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL
);
COMMENT ON COLUMN audit_log.subject IS 'What it was done to, as kind/id: deploy/0190…';
CREATE INDEX audit_log_by_subject ON audit_log (subject, seq);

CREATE TABLE audit_head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, '\x');

-- Each part goes in with its length before it, so that no two different rows share a text. The program computes the
-- same when it verifies (src/store/audit.rs).
CREATE FUNCTION audit_part(part bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT int8send(octet_length(part)::bigint) || part
$$;

-- The head is locked until the transaction ends: writers form one line, and the chain has no forks. Whoever writes
-- more than one table in a transaction writes here last.
CREATE FUNCTION audit_log_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.prev_hash := head.hash;
    NEW.hash := sha256(
        audit_part(NEW.prev_hash)
        || audit_part(convert_to(NEW.seq::text, 'UTF8'))
        || audit_part(convert_to((extract(epoch FROM NEW.at) * 1000000)::bigint::text, 'UTF8'))
        || audit_part(convert_to(NEW.actor, 'UTF8'))
        || audit_part(convert_to(NEW.action, 'UTF8'))
        || audit_part(convert_to(NEW.subject, 'UTF8'))
        || audit_part(convert_to(NEW.details::text, 'UTF8'))
    );
    UPDATE audit_head SET seq = NEW.seq, hash = NEW.hash;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_log_chain BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_chain();

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION append_only();
