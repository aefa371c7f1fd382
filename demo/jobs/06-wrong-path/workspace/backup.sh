#!/bin/sh
source=$(sed -n 's/^source = //p' backup.ini)
if [ ! -d "$source" ]; then
    echo "backup failed: there is no folder $source"
    exit 1
fi
echo "would save $(find "$source" -type f | wc -l) files of $source"
