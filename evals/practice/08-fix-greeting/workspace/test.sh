#!/bin/sh
for pair in "7 good morning" "11 good morning" "12 good day" "18 good day"; do
    hour=${pair%% *} wanted=${pair#* }
    got=$(sh greet.sh "$hour")
    [ "$got" = "$wanted" ] || { echo "at $hour it must say $wanted, and it said $got"; exit 1; }
done
echo ok
