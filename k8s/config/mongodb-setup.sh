#!/bin/bash
# Runs beside mongod in each pod. Ends with an error, and is started again, until mongodb-setup.js has come to its end.
set -euo pipefail

# The first process of a container is told to end only if it listens, which bash does while it waits; else its pod would take
# the whole grace period.
trap 'exit 0' TERM

mongosh --quiet --norc --nodb --file /setup/mongodb-setup.js &
wait $!
sleep infinity &
wait
