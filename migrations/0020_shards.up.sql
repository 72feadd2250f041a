-- The shard of a namespace among so many: the first four bytes of its SHA-256, as a number, modulo their count. The program
-- counts the same way.
CREATE FUNCTION shard_of(namespace text, of_shards integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((('x' || left(encode(sha256(convert_to(namespace, 'UTF8')), 'hex'), 8))::bit(32)::bigint) % of_shards)::integer
$$;

-- Whether a namespace is among these (null: every one), and in one of these shards of so many.
CREATE FUNCTION in_share(namespace text, names text[], shards integer[], of_shards integer) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (names IS NULL OR namespace = ANY (names)) AND (of_shards = 1 OR shard_of(namespace, of_shards) = ANY (shards))
$$;

-- As before, for whoever acts under several leases at once, their names parted by commas: to lead no more under one of them is to
-- lead no more.
CREATE OR REPLACE FUNCTION leads(lease text, epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lost text;
    theirs bigint;
BEGIN
    SELECT known.lease, known.epoch INTO lost, theirs FROM leader_epochs AS known
    WHERE known.lease = ANY (string_to_array(leads.lease, ',')) AND known.epoch > leads.epoch LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'lease % is held with epoch %, this process held it with epoch %: it leads no more', lost, theirs, epoch
            USING ERRCODE = 'SK001';
    END IF;
    RETURN true;
END
$$;
