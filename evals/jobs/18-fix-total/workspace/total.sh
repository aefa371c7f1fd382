#!/bin/sh
# Prints the sum of the numbers in a file, one a line.
total=0
while read -r number; do
    total=$((total - number))
done < "$1"
echo "$total"
