#!/bin/sh
# Looks for each setting of mail.ini in mail.json.
[ -f mail.json ] || { echo "mail.json is missing"; exit 1; }
bad=0
while IFS=' =' read -r key value; do
    grep -Eq "\"$key\": *\"?$value\"?" mail.json || { echo "mail.json: $key must be $value"; bad=1; }
done < mail.ini
[ "$bad" = 0 ] && echo "mail.json has all settings"
exit "$bad"
