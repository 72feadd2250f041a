DELETE FROM targets WHERE kind = 'environment';
DROP TABLE environments;
DROP FUNCTION environments_tell();
DROP TABLE subdomains;
ALTER TABLE targets DROP CONSTRAINT targets_kind_check;
ALTER TABLE targets ADD CONSTRAINT targets_kind_check CHECK (kind IN ('stage'));
