-- What the API answered to requests that carry a key, so that the same request again gets the same answer and is done once.
CREATE TABLE api_replies (
    actor text NOT NULL CHECK (actor ~ '^user:.+$'),
    key text NOT NULL CHECK (key <> ''),
    request bytea NOT NULL CHECK (octet_length(request) = 32),
    status smallint CHECK (status BETWEEN 200 AND 299),
    reply jsonb,
    at timestamptz NOT NULL,
    PRIMARY KEY (actor, key),
    CHECK ((status IS NULL) = (reply IS NULL))
);
COMMENT ON COLUMN api_replies.request IS 'Hash of what was asked: the key with another one is refused';
COMMENT ON COLUMN api_replies.status IS 'NULL while it is being done';
CREATE INDEX api_replies_by_age ON api_replies (at);

-- The updates of a namespace: those of its stages, whose host is NAMESPACE/STAGE.
CREATE INDEX image_updates_by_namespace ON image_updates (split_part(host, '/', 1), first_seen_at, id)
    WHERE position('/' IN host) > 0;
