#!/bin/sh
echo "restarting $1"
