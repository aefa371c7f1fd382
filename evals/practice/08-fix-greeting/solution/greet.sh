#!/bin/sh
# Greets for an hour of the day, 0 to 23.
hour=$1
if [ "$hour" -lt 12 ]; then
    echo "good morning"
else
    echo "good day"
fi
