-- Projects, the targets that deploys go to, and who leads.
--
-- Deleting is soft everywhere: `deleted_at` is set, the history stays, and applying the same name again revives the
-- row. A purge is `DELETE FROM projects`: foreign keys take everything below it along (targets, stages, deploys with
-- their transitions, logs, hooks and vetoes, instances, releases, snapshots). The audit log is never purged.

CREATE FUNCTION updated_at_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TABLE projects (
    id uuid PRIMARY KEY,
    namespace text NOT NULL CHECK (namespace <> ''),
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (namespace, name)
);
CREATE TRIGGER projects_updated_at BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- Whatever a deploy can go to. One row for each stage (later: environment) with the same id, so that deploys need not
-- know which kind it is.
CREATE TABLE targets (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('stage')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, project_id)
);
CREATE INDEX targets_by_project ON targets (project_id);

CREATE TABLE stages (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL,
    namespace text NOT NULL CHECK (namespace <> ''),
    name text NOT NULL CHECK (name <> ''),
    uid text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    FOREIGN KEY (id, project_id) REFERENCES targets (id, project_id) ON DELETE CASCADE,
    UNIQUE (project_id, namespace, name)
);
COMMENT ON COLUMN stages.uid IS 'UID of the Stage object that the row belongs to now; another UID is another life of the same name';
-- A name belongs to one project at a time; its rows under earlier projects keep their history.
CREATE UNIQUE INDEX stages_one_live_name ON stages (namespace, name) WHERE deleted_at IS NULL;
CREATE TRIGGER stages_updated_at BEFORE UPDATE ON stages FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- The last epoch that was given out for each lease. Epochs fence: a deploy's row remembers the highest that wrote it,
-- and refuses lower ones.
CREATE TABLE leader_epochs (
    lease text PRIMARY KEY CHECK (lease <> ''),
    epoch bigint NOT NULL CHECK (epoch > 0),
    holder text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER leader_epochs_updated_at BEFORE UPDATE ON leader_epochs FOR EACH ROW EXECUTE FUNCTION updated_at_touch();

-- What holds for the whole installation: exactly one row.
CREATE TABLE settings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    deploy_retention_days integer NOT NULL DEFAULT 730 CHECK (deploy_retention_days > 0),
    log_retention_days integer NOT NULL DEFAULT 30 CHECK (log_retention_days > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO settings DEFAULT VALUES;
CREATE TRIGGER settings_updated_at BEFORE UPDATE ON settings FOR EACH ROW EXECUTE FUNCTION updated_at_touch();
CREATE FUNCTION settings_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'settings has exactly one row, which stays' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER settings_stay BEFORE DELETE ON settings FOR EACH ROW EXECUTE FUNCTION settings_stay();
