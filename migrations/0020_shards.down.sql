DROP FUNCTION in_share(text, text[], integer[], integer);
DROP FUNCTION shard_of(text, integer);
-- Whether who claimed `epoch` for `lease` may still write: true, or the statement it stands in fails. A statement of a
-- leader that was replaced while it was frozen, or while the statement was on its way, changes nothing. Without a lease
-- there is nothing to be replaced: that is a person at a command line. Volatile, so that every statement looks anew.
CREATE OR REPLACE FUNCTION leads(lease text, epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    theirs bigint := (SELECT known.epoch FROM leader_epochs AS known WHERE known.lease = leads.lease AND known.epoch > leads.epoch);
BEGIN
    IF theirs IS NOT NULL THEN
        RAISE EXCEPTION 'lease % is held with epoch %, this process held it with epoch %: it leads no more', lease, theirs, epoch
            USING ERRCODE = 'SK001';
    END IF;
    RETURN true;
END
$$;
