#!/usr/bin/env bash
# An MLflow server for several people: runs in a database, artifacts in a folder, every request with a password.
# It listens on 127.0.0.1 and speaks plain HTTP: from elsewhere `ssh -L 5000:127.0.0.1:5000`, or a proxy that has TLS.
#
# Launch: bash mlflow-server.sh start    # the database must exist: createdb mlflow; its password belongs in ~/.pgpass
#         MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD="$(bash mlflow-server.sh password)" \
#           orchestrator search search_spaces/unet.toml --data Kvasir-SEG --trials 40 --tracking-uri http://127.0.0.1:5000
#         People get users of their own at /signup, as admin.
# Watch:  bash mlflow-server.sh status
# Stop:   bash mlflow-server.sh stop     # ends this server alone; searches go on and report when it is back
# Tested: MLflow 3.17.2 with PostgreSQL 15: right, wrong and no password, a foreign Host, started twice, stopped and started
#         again (tests/cluster/test_mlflow_server.py).
set -euo pipefail
umask 077

folder="$HOME"/.orchestrator/mlflow-server # secrets, log and artifacts
bin="$HOME"/polyps/.venv/bin
database=postgresql://polyps@localhost/mlflow
host=127.0.0.1
port=5000
allowed="localhost:$port,127.0.0.1:$port"
running=$folder/running # host, process and its start, so that no other process is taken for the server

secret() { # make a secret once; the file appears whole
  if [ ! -s "$folder/$1" ]; then
    "$bin/python" -c 'import secrets; print(secrets.token_urlsafe(32))' >"$folder/$1.$$"
    mv -n "$folder/$1.$$" "$folder/$1"
    rm -f "$folder/$1.$$"
  fi
  cat "$folder/$1"
}

started() { ps -o lstart= -p "$1" 2>/dev/null || true; }

find_server() { # set where and pid; fail if it does not run, as far as is known here
  [ -s "$running" ] || return 1
  local since
  read -r where pid since <"$running"
  [ "$where" != "$(hostname)" ] || [ "$(started "$pid" | xargs)" = "$since" ]
}

answers() {
  "$bin/python" -c 'import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1]), timeout=5)' \
    "http://$host:$port/health" 2>/dev/null
}

start() {
  if find_server; then
    echo "was started already: process $pid on $where; should that machine be gone, delete $running"
    return
  fi
  if answers; then
    echo "$host:$port is taken by a server that this script did not start" >&2
    exit 2
  fi
  printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nadmin_username = admin\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n' \
    "${database//%/%%}" >"$folder/auth.ini"
  secret admin_password >/dev/null
  secret key >/dev/null
  # Where all is slow, workers take minutes to import MLflow; after 5 s without a word each would be killed, for ever.
  # Jobs (eight processes) are for language models.
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$folder/key") \
  MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$folder/admin_password") \
  MLFLOW_AUTH_CONFIG_PATH=$folder/auth.ini MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    setsid "$bin/mlflow" server --app-name basic-auth --host "$host" --port "$port" --allowed-hosts "$allowed" \
    --backend-store-uri "$database" --artifacts-destination "$folder/artifacts" \
    --uvicorn-opts "--timeout-worker-healthcheck 120" \
    >>"$folder/log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$(hostname) $pid $(started $pid | xargs)" >"$running"
  for _ in $(seq 300); do
    if answers; then
      echo "http://$host:$port, process $pid; user admin, password: bash $0 password"
      return
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 1
  done
  kill -TERM -- "-$pid" 2>/dev/null || true
  rm -f "$running"
  tail -n 20 "$folder/log" >&2
  echo "the server did not start; the log is $folder/log" >&2
  exit 2
}

stop() {
  if ! find_server; then
    rm -f "$running"
    echo "does not run"
    return
  fi
  if [ "$where" != "$(hostname)" ]; then
    echo "runs on $where: stop it there" >&2
    exit 2
  fi
  kill -TERM -- "-$pid"
  for _ in $(seq 30); do
    pgrep -g "$pid" >/dev/null || break
    sleep 1
  done
  kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$running"
  echo "stopped"
}

status() {
  if ! find_server; then
    echo "does not run"
    exit 1
  fi
  if answers; then
    echo "http://$host:$port answers; process $pid on $where"
  else
    echo "process $pid on $where runs, http://$host:$port does not answer; the log is $folder/log"
    exit 1
  fi
}

case ${1-} in
  start | stop)
    mkdir -p "$folder/artifacts"
    exec 9>"$folder/lock"
    flock -n 9 || { echo "another start or stop is going on" >&2; exit 1; }
    "$1"
    ;;
  status) status ;;
  password) cat "$folder/admin_password" ;;
  *)
    echo "usage: bash $0 start|status|password|stop" >&2
    exit 2
    ;;
esac
