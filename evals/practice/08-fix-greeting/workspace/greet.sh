#!/bin/sh
# Greets for an hour of the day, 0 to 23.
hour=$1
if [ "$hour" -gt 12 ]; then
    echo "good morning"
else
    echo "good day"
fi
