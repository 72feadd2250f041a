DROP INDEX image_updates_by_namespace;
DROP TABLE api_replies;
