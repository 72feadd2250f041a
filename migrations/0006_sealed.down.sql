DROP TABLE credential_uses;
DROP TABLE credentials;
DROP FUNCTION sealed_with_live_key();
DROP TABLE encryption_keys;
