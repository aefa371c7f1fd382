#!/bin/sh
if grep -rnF mail.example.com app.ini cron; then echo "the old name is still there"; exit 1; fi
grep -q post.example.com app.ini && grep -q post.example.com cron/report.sh && echo ok
