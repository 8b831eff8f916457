# A node of Ray. It ends with the connection to its head; the set then starts the group anew.
set -eu
deadline=$(($(date +%s) + STEERSMAN_JOIN_SECONDS))
until ray health-check --address="$LWS_LEADER_ADDRESS:6379" >/dev/null 2>&1; do
    if [ "$(date +%s)" -gt "$deadline" ]; then
        echo "there is no Ray at $LWS_LEADER_ADDRESS" >&2
        exit 1
    fi
    sleep 2
done
exec ray start --address="$LWS_LEADER_ADDRESS:6379" --block --disable-usage-stats
