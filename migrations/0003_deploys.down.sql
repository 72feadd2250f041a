DROP TABLE hook_runs;
DROP TABLE vetoes;
DROP TABLE instances;
DROP TABLE deploy_transitions;
DROP FUNCTION deploy_transitions_keep();
DROP TABLE deploys;
DROP TABLE snapshots;
DROP TABLE releases;
