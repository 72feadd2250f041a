-- Environments: targets that live for a while. Each has a row in stages too, with the same id, so that whatever knows stages
-- (deploys, history, requests, audit) knows environments; a Stage and an Environment of one namespace cannot have one name.
ALTER TABLE targets DROP CONSTRAINT targets_kind_check;
ALTER TABLE targets ADD CONSTRAINT targets_kind_check CHECK (kind IN ('stage', 'environment'));

-- Every subdomain that was ever given out. None is given out twice, also when what had it was purged.
CREATE TABLE subdomains (
    subdomain text PRIMARY KEY CHECK (subdomain ~ '^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$'),
    environment_id uuid,
    given_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= given_at)
);
COMMENT ON COLUMN subdomains.ended_at IS 'When what it was given to had ended; its host says so from then on';
CREATE INDEX subdomains_ended ON subdomains (ended_at DESC) WHERE ended_at IS NOT NULL;
CREATE INDEX subdomains_by_environment ON subdomains (environment_id);

CREATE TABLE environments (
    id uuid PRIMARY KEY REFERENCES stages (id) ON DELETE CASCADE,
    uid text NOT NULL CHECK (uid <> ''),
    subdomain text NOT NULL UNIQUE REFERENCES subdomains (subdomain),
    place text NOT NULL CHECK (place <> ''),
    born_at timestamptz NOT NULL,
    extended_until timestamptz,
    pinned boolean NOT NULL DEFAULT false,
    active_at timestamptz NOT NULL,
    wake_asked_at timestamptz,
    sleep_asked_at timestamptz,
    asleep_since timestamptz,
    ending_since timestamptz,
    ending_because text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN environments.uid IS 'UID of the Environment object that this is the life of: another one begins anew, with another subdomain';
COMMENT ON COLUMN environments.place IS 'The namespace that its objects are in';
COMMENT ON COLUMN environments.pinned IS 'Somebody asked that it does not end by itself';
COMMENT ON COLUMN environments.active_at IS 'When somebody last looked at it, to within a minute';
COMMENT ON COLUMN environments.asleep_since IS 'NULL while it is awake';
COMMENT ON COLUMN environments.ending_since IS 'When its end was decided; nothing undoes that';
CREATE UNIQUE INDEX environments_by_place ON environments (place, id);
CREATE TRIGGER environments_updated_at BEFORE UPDATE ON environments FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- The leader hears when somebody wants it awake.
CREATE FUNCTION environments_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('stagekeeper_vault', 'environment ' || NEW.id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER environments_wake_tell AFTER UPDATE ON environments FOR EACH ROW
    WHEN (NEW.wake_asked_at IS DISTINCT FROM OLD.wake_asked_at) EXECUTE FUNCTION environments_tell();
