#!/bin/sh
version=$(cat VERSION)
grep -q "\"version\": \"$version\"" package.json || { echo "package.json and VERSION differ"; exit 1; }
[ "$version" = 2.4.0 ] || { echo "VERSION is $version"; exit 1; }
echo "version $version"
