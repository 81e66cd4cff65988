#!/usr/bin/env bash
# Looks for requests whose answers are not as /openapi.json says: schemathesis against three nodes of this build.
#   SEED=7       the same requests again (a run prints its seed)
#   EXAMPLES=50  so many requests at most for each operation and phase
#   BINARY=path  instead of a release build
# Further arguments go to schemathesis. Ends with 1 where it found something.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
venv=$target/schemathesis
if ! "$venv/bin/schemathesis" --version >/dev/null 2>&1; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/schemathesis/requirements.txt
fi
rondo=${BINARY:-$target/release/rondo}
[ -n "${BINARY:-}" ] || cargo build --quiet --release
# The nodes would take them for settings.
unset "${!RONDO_@}"

# Three nodes take two ports each, ten apart.
port=$(python3 - <<'PY'
import random, socket
def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
bases = random.sample(range(20000, 30000), 1000)
print(next(base for base in bases if all(free(base + 10 * node + peer) for node in range(3) for peer in range(2))))
PY
)
logs=$(mktemp -d)
"$rondo" dev --base-port "$port" --data-dir "$logs/data" >"$logs/dev.log" 2>&1 &
dev=$!
trap 'kill "$dev" 2>/dev/null || true; wait "$dev" 2>/dev/null || true; rm -rf "$logs"' EXIT
for node in 0 1 2; do
    ready=http://127.0.0.1:$((port + 10 * node))/readyz
    for _ in $(seq 600); do
        curl --silent --fail --output /dev/null "$ready" && continue 2
        kill -0 "$dev" || { cat "$logs/dev.log"; exit 1; }
        sleep 0.1
    done
    echo "$ready does not answer"
    exit 1
done

"$venv/bin/schemathesis" --config-file tests/schemathesis/schemathesis.toml run "http://127.0.0.1:$port/openapi.json" \
    ${SEED:+--seed "$SEED"} ${EXAMPLES:+--max-examples "$EXAMPLES"} "$@"
