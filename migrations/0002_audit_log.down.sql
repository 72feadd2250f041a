DROP TABLE audit_log;
DROP FUNCTION append_only();
DROP FUNCTION audit_log_chain();
DROP FUNCTION audit_part(bytea);
DROP TABLE audit_head;
