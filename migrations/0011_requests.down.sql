DELETE FROM vetoes WHERE deploy_id IS NULL;
ALTER TABLE vetoes ALTER COLUMN deploy_id SET NOT NULL;
DROP INDEX deploys_proven;
ALTER TABLE deploys
    DROP COLUMN retry_of,
    DROP COLUMN promoted_from,
    DROP COLUMN superseded_by,
    DROP COLUMN group_id,
    DROP COLUMN emergency;
DROP TABLE approvals;
DROP TABLE holds;
DROP TABLE requests;
DROP FUNCTION requests_tell();
DROP TABLE deploy_groups;
