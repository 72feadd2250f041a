DROP INDEX deploy_groups_by_namespace;
COMMENT ON COLUMN deploy_groups.started_at IS NULL;
ALTER TABLE deploy_groups DROP COLUMN action, DROP COLUMN namespace;
