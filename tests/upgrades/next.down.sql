DROP TRIGGER next_follow ON deploys;
DROP FUNCTION next_follow;
DROP TABLE next_notes;
ALTER TABLE targets DROP CONSTRAINT targets_kind_check;
ALTER TABLE targets ADD CONSTRAINT targets_kind_check CHECK (kind IN ('stage', 'environment'));
ALTER TABLE instances DROP COLUMN next_mark;
ALTER TABLE deploy_transitions DROP COLUMN next_at;
ALTER TABLE stages DROP COLUMN next_weight;
ALTER TABLE deploys DROP COLUMN next_note;
