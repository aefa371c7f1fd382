#!/bin/sh
bad=0
while read -r key _ _; do
    case "$key" in
    host | port | max_connections | idle_timeout | tls | certificate | "#" | "") ;;
    *) echo "server.conf: unknown setting $key"; bad=1 ;;
    esac
done < server.conf
grep -q '^max_connections = [0-9]' server.conf || { echo "server.conf: max_connections is missing"; bad=1; }
[ "$bad" = 0 ] && echo "server.conf is valid"
exit "$bad"
