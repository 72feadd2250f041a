# Makes the cluster of databases on an empty volume, once. What is half made after a crash is made again: only what is whole gets
# the name that Postgres is started with. The superuser can only log in from within the pod.
set -eu
if [ -s "$PGDATA/PG_VERSION" ]; then
  echo "there is a database already: $(cat "$PGDATA/PG_VERSION")"
  exit 0
fi
new=$PGDATA.new
rm -rf "$new"
initdb --pgdata="$new" --username=postgres --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C \
  --data-checksums
echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
quoted=$(printf %s "$PASSWORD" | sed "s/'/''/g")
# One statement in each line.
postgres --single -D "$new" postgres >/dev/null <<SQL
CREATE ROLE stagekeeper LOGIN PASSWORD '$quoted'
CREATE DATABASE stagekeeper OWNER stagekeeper
SQL
sync
mv "$new" "$PGDATA"
