#!/bin/sh
port=$(sed -n 's/^port = //p' app.toml)
if grep -qx "backend 127.0.0.1:$port" proxy.conf; then
    echo "ok: the proxy reaches the application"
else
    echo "the backend of proxy.conf is not port $port"
    exit 1
fi
