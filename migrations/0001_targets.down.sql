DROP TABLE settings;
DROP FUNCTION settings_stay();
DROP TABLE leader_epochs;
DROP TABLE stages;
DROP TABLE targets;
DROP TABLE projects;
DROP FUNCTION updated_at_touch();
