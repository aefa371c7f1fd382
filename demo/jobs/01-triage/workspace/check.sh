#!/bin/sh
# Every service that uses the database must name its port as config/database.conf does.
port=$(sed -n 's/^port = //p' config/database.conf)
bad=0
for file in config/billing.conf config/mailer.conf; do
    grep -qx "database_port = $port" "$file" || { echo "$file: the line must be: database_port = $port"; bad=1; }
done
[ "$bad" = 0 ] && echo "configuration ok"
exit "$bad"
