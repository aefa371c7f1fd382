#!/bin/sh
got=$(sh total.sh numbers.txt)
[ "$got" = 27 ] && echo "ok" && exit 0
echo "the sum of 4, 8 and 15 is 27, and total.sh said $got"
exit 1
