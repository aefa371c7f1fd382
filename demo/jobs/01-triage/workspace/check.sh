#!/bin/sh
# Every service that uses the database must name its host and port as config/database.conf does.
host=$(sed -n 's/^host = //p' config/database.conf)
port=$(sed -n 's/^port = //p' config/database.conf)
bad=0
for file in config/billing.conf config/mailer.conf; do
    grep -qx "database_host = $host" "$file" || { echo "$file: the line must be: database_host = $host"; bad=1; }
    grep -qx "database_port = $port" "$file" || { echo "$file: the line must be: database_port = $port"; bad=1; }
done
[ "$bad" = 0 ] && echo "configuration ok"
exit "$bad"
