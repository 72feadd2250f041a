-- What a migration may do: the version before reads and writes all of this without knowing of it.
ALTER TABLE deploys ADD COLUMN next_note text;
ALTER TABLE stages ADD COLUMN next_weight integer NOT NULL DEFAULT 1;
ALTER TABLE deploy_transitions ADD COLUMN next_at timestamptz DEFAULT now();
ALTER TABLE instances ADD COLUMN next_mark text NOT NULL DEFAULT '';
CREATE TABLE next_notes (
    deploy_id uuid PRIMARY KEY REFERENCES deploys (id) ON DELETE CASCADE,
    note text NOT NULL
);
CREATE INDEX next_by_note ON deploys (next_note) WHERE next_note IS NOT NULL;
-- A state that only the next version writes.
ALTER TABLE targets DROP CONSTRAINT targets_kind_check;
ALTER TABLE targets ADD CONSTRAINT targets_kind_check CHECK (kind IN ('stage', 'environment', 'next'));
-- What the next version keeps up to date for the one before, for as long as that writes.
CREATE FUNCTION next_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.next_note = NEW.state;
    RETURN NEW;
END
$$;
CREATE TRIGGER next_follow BEFORE INSERT OR UPDATE ON deploys FOR EACH ROW EXECUTE FUNCTION next_follow();
