#!/usr/bin/env bash
# Ray and MLflow on one node, a DGX-2: searches come and go, and nothing of it can be reached from another machine.
# Ray wants a token and MLflow a password, for others may be logged in here; several may each have their own.
#
# Launch: bash cluster/dgx2.sh start [--gpus N] [--cpus N] [--port P] [--dashboard-port P] [--mlflow-port P]
#         then what it prints, such as: orchestrator search {{ search }} --address 127.0.0.1:{{ port }}
# Watch:  bash cluster/dgx2.sh status; orchestrator status --watch; from elsewhere ssh -L {{ mlflow_port }}:127.0.0.1:{{ mlflow_port }}
# Stop:   bash cluster/dgx2.sh stop    ends what start began and nothing else; a search then goes on when it is given again
# Tested: start, a search through it and stop beside another Ray of the same user, without GPUs (tests/cluster/test_dgx2.py)
set -euo pipefail

export PATH={{ venv }}/bin:$PATH
export ORCHESTRATOR_HOME={{ home }}
{% if cache is not none %}
export ORCHESTRATOR_CACHE={{ cache }}
{% endif %}
gpus={{ gpus }} cpus={{ cpus }} port={{ port }} dashboard_port={{ dashboard_port }} mlflow_port={{ mlflow_port }}
state=$ORCHESTRATOR_HOME/.dgx2-$(hostname)  # secrets, logs, and what was started
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$state/token
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0  # stopping Ray does not wait for running work
# Else Ray puts the address of this machine in place of 127.0.0.1, and its workers that of a network card.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
# Freed memory is kept, waiting threads sleep soon, other programs do not starve Ray: orchestrator/common/{allocator,cpus}.py
export {{ process_environment }}
unset RAY_ADDRESS RAY_AUTH_TOKEN

fail() { printf 'dgx2.sh: %s\n' "$@" >&2; exit 2; }

# When a process that lives began, in ticks since the machine did: no other one of its number began then.
began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# start_service NAME COMMAND...: in a session of its own, by which `stop` finds all of it.
start_service() {
    setsid "${@:2}" >>"$state/$1.log" 2>&1 </dev/null &
    echo "$! $(began "$!")" >"$state/$1.session"
}

# Whether the process that leads a service runs; sets pid.
runs() {
    local start
    [ -s "$state/$1.session" ] || return
    read -r pid start <"$state/$1.session"
    [ "$(began "$pid")" = "$start" ]
}

# End all of a service, unless its process id now belongs to another process.
stop_service() {
    local pid start now
    [ -s "$state/$1.session" ] || return 0
    read -r pid start <"$state/$1.session"
    now=$(began "$pid") || true
    if [ -z "$now" ] || [ "$now" = "$start" ]; then
        pkill -TERM --session "$pid" || true
        for _ in $(seq 50); do
            [ -n "$(ps -o stat= -s "$pid" | sed '/^Z/d')" ] || break
            sleep 0.2
        done
        pkill -KILL --session "$pid" || true
    fi
    rm "$state/$1.session"
}

# Refuse ports that are taken, all at once.
check_ports() {
    python3 - "--port=$port" "--dashboard-port=$dashboard_port" "--mlflow-port=$mlflow_port" <<'PY' || exit 2
import socket
import sys

taken = []
for word in sys.argv[1:]:
    try:
        socket.create_server(("127.0.0.1", int(word.partition("=")[2]))).close()
    except OSError as error:
        taken.append(f"{word.replace('=', ' ')}: {error.strerror}")
if taken:
    sys.exit("dgx2.sh: " + "; ".join(taken) + ". Choose others; these may be used by others")
PY
}

secret() { python3 -c 'import secrets; print(secrets.token_hex(32), end="")'; }

prepare() {
    local password
    mkdir -p "$ORCHESTRATOR_HOME"
    mkdir -m 700 "$state" || fail "another start is going on, or was cut off: \`stop\` tidies up"
    password=$(secret)
    (
        umask 077
        secret >"$state/token"
        echo "$password" >"$state/password"
        printf '%s\n' '[mlflow]' "database_uri = sqlite:///$state/auth.db" 'admin_username = admin' \
            "admin_password = $password" 'default_permission = READ' \
            'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' >"$state/auth.ini"
    )
    echo "$port $mlflow_port $dashboard_port" >"$state/ports"
    # Ray makes its temporary folder writable for everybody, so it is one below this.
    mktemp -d "${RAY_TMPDIR:-/tmp}/ray-dgx2.XXXXXX" >"$state/temporary"
}

start_ray() {
    local client_port
    # Of what is left to Ray the kernel gives every port but that of Ray's client, which is not used here.
    client_port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    start_service ray ray start --head --block --node-ip-address=127.0.0.1 --temp-dir="$(cat "$state/temporary")/r" \
        --num-cpus="$cpus" --num-gpus="$gpus" --object-store-memory=1073741824 --disable-usage-stats \
        --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" --ray-client-server-port="$client_port" \
        --node-manager-port=0 --object-manager-port=0 --min-worker-port=0 --max-worker-port=0 --metrics-export-port=0 \
        --dashboard-agent-listen-port=0 --dashboard-agent-grpc-port=0 --runtime-env-agent-port=0
}

# The same database that a search writes to by itself.
start_mlflow() {
    MLFLOW_AUTH_CONFIG_PATH=$state/auth.ini MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$state/token") \
        start_service mlflow mlflow server --app-name basic-auth --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
        --backend-store-uri "sqlite:///$ORCHESTRATOR_HOME/mlflow.db" --artifacts-destination "$ORCHESTRATOR_HOME/mlartifacts"
}

ray_answers() { [ -s "$(cat "$state/temporary")/r/ray_current_cluster" ]; }

mlflow_answers() {
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' \
        "http://127.0.0.1:$mlflow_port/health" 2>/dev/null
}

# await NAME: until a service answers. If it ends, or takes too long, all is ended.
await() {
    for _ in $(seq 180); do
        if "$1_answers"; then return; fi
        runs "$1" || break
        sleep 1
    done
    tail -n 20 "$state/$1.log" >&2
    stop
    fail "$1 did not start"
}

start() {
    while [ $# -gt 0 ]; do
        [ $# -gt 1 ] || fail "$1 wants a value"
        case $1 in
            --gpus) gpus=$2 ;;
            --cpus) cpus=$2 ;;
            --port) port=$2 ;;
            --dashboard-port) dashboard_port=$2 ;;
            --mlflow-port) mlflow_port=$2 ;;
            *) fail "expected --gpus, --cpus, --port, --dashboard-port or --mlflow-port, found $1" ;;
        esac
        shift 2
    done
    if runs ray || runs mlflow; then fail "it runs already; \`status\` says where"; fi
    check_ports
    if [ -d "$state" ]; then stop; fi  # of before a crash
    prepare
    start_ray
    start_mlflow
    await ray
    await mlflow
    show
}

show() {
    read -r port mlflow_port dashboard_port <"$state/ports"
    printf 'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%q RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ORCHESTRATOR_HOME=%q\n' \
        "$state/token" "$ORCHESTRATOR_HOME"
    cat <<TEXT
orchestrator search {{ search }} --address 127.0.0.1:$port
MLflow: http://127.0.0.1:$mlflow_port  user admin, password in $state/password
Ray:    http://127.0.0.1:$dashboard_port  token in $state/token
TEXT
}

status() {
    local name code=0
    [ -d "$state" ] || { echo "nothing was started"; exit 1; }
    for name in ray mlflow; do
        if ! runs "$name"; then
            echo "$name does not run"
            code=1
        fi
    done
    show
    exit "$code"
}

stop() {
    [ -d "$state" ] || { echo "nothing was started"; return; }
    stop_service ray
    stop_service mlflow
    if [ -s "$state/temporary" ]; then rm -rf "$(cat "$state/temporary")"; fi
    rm -rf "$state"
}

case ${1-} in
    start | status | stop) "$@" ;;
    *) fail "expected start, status or stop, found ${1:-nothing}" ;;
esac
