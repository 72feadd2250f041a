DROP TABLE outbox;
DROP TABLE pull_requests;
DELETE FROM webhook_receivers WHERE source = 'gitea';
ALTER TABLE webhook_receivers DROP CONSTRAINT webhook_receivers_source_check;
ALTER TABLE webhook_receivers ADD CONSTRAINT webhook_receivers_source_check
    CHECK (source IN ('diun', 'dockerhub', 'github', 'harbor', 'quay', 'distribution', 'acr', 'jfrog', 'cloudevents', 'gitlab',
                      'generic'));
