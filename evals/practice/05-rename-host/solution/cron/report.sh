#!/bin/sh
server=post.example.com
echo "sending the report through $server"
