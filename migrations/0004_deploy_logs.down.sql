DROP FUNCTION deploy_logs_prune(timestamptz);
DROP FUNCTION deploy_logs_partitions_ensure(timestamptz, integer);
DROP TABLE deploy_logs;
DROP SEQUENCE deploy_logs_position;
