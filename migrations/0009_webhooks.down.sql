DROP TABLE webhook_inbox;
DROP FUNCTION inbox_tell();
DROP TABLE webhook_receivers;
