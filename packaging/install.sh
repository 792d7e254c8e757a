#!/bin/sh
# Installs k3rs as a service: systemd, OpenRC, runit or busybox init. Any POSIX shell runs it, busybox's among them.
#
#   ./install.sh [server|agent] [FLAGS]              with k3rs-ARCH and SHA256SUMS in the folder of this script
#   K3S_URL=https://HOST:6443 K3S_TOKEN=SECRET ./install.sh
#
# k3s's variables, with k3s's meaning:
#   INSTALL_K3S_EXEC           command and flags of the service; the script's arguments follow
#   INSTALL_K3S_NAME           the service is k3s-NAME instead of k3s or k3s-agent
#   INSTALL_K3S_TYPE           Type= of the systemd unit (notify)
#   INSTALL_K3S_BIN_DIR        where the program goes (/usr/local/bin, or /opt/bin where that is read-only)
#   INSTALL_K3S_BIN_DIR_READ_ONLY=true  writes nothing there
#   INSTALL_K3S_SYSTEMD_DIR    where the unit goes (/etc/systemd/system)
#   INSTALL_K3S_SKIP_DOWNLOAD=true  takes the k3rs that is in the folder of programs already
#   INSTALL_K3S_SKIP_ENABLE=true, INSTALL_K3S_SKIP_START=true, INSTALL_K3S_FORCE_RESTART=true
#   INSTALL_K3S_SYMLINK        skip or force the links k3s, kubectl, crictl and ctr
#   INSTALL_K3S_VERSION        the version: it is a folder below INSTALL_K3RS_URL, and the program must say it
#   K3S_*, K3RS_*, *_PROXY     are kept for the service
# Ours:
#   INSTALL_K3RS_FILE          the program to install
#   INSTALL_K3RS_URL           the folder to download k3rs-ARCH and SHA256SUMS from
#   INSTALL_K3RS_SHA256        the digest of the program; without it SHA256SUMS beside the program names it. One is needed
#   INSTALL_K3RS_ARCH          amd64, arm64 or armv7 (this machine's)
#   INSTALL_K3RS_INIT          systemd, openrc, runit or busybox (what is here)
#   INSTALL_K3RS_ROOT          a root directory to install into; nothing is started then
set -eu

ROOT=${INSTALL_K3RS_ROOT:-}
ROOT=${ROOT%/}
TMP=

info() { echo "[INFO]  $*"; }
warn() { echo "[WARN]  $*" >&2; }
fatal() { echo "[ERROR]  $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

main() {
  [ "$(id -u)" = 0 ] || fatal "install.sh must run as root"
  for name in INSTALL_K3S_COMMIT INSTALL_K3S_PR INSTALL_K3S_CHANNEL INSTALL_K3S_CHANNEL_URL; do
    eval "[ -z \"\${$name:-}\" ]" || fatal "$name has no meaning here: k3rs has no channels; INSTALL_K3RS_URL and INSTALL_K3S_VERSION say what to install"
  done
  trap 'rm -rf "$TMP"' EXIT
  trap 'exit 1' INT TERM HUP
  # INSTALL_K3S_EXEC is split into words as a shell would, quotes included, for k3s does.
  eval "set -- ${INSTALL_K3S_EXEC:-} \"\$@\""
  find_init
  settle "$@"
  before=$(hashes)
  get_program
  make_links
  make_killall
  make_uninstall
  make_env
  "unit_$INIT"
  after=$(hashes)
  if [ "${INSTALL_K3S_SKIP_ENABLE:-}" = true ]; then exit 0; fi
  info "$INIT: enabling $NAME"
  "enable_$INIT"
  if [ "${INSTALL_K3S_SKIP_START:-}" = true ] || [ -n "$ROOT" ]; then exit 0; fi
  if [ "$before" = "$after" ] && [ "${INSTALL_K3S_FORCE_RESTART:-}" != true ]; then
    info "No change detected so skipping service start"
    exit 0
  fi
  info "$INIT: starting $NAME"
  "start_$INIT"
}

# --- what there is, and what is wanted ---

find_init() {
  INIT=${INSTALL_K3RS_INIT:-}
  if [ -z "$INIT" ]; then
    if [ -x "$ROOT/sbin/openrc-run" ]; then INIT=openrc
    elif [ -x "$ROOT/bin/systemctl" ] || [ -x "$ROOT/usr/bin/systemctl" ]; then INIT=systemd
    elif [ -x "$ROOT/usr/bin/runsv" ] || [ -x "$ROOT/sbin/runsv" ] || [ -x "$ROOT/bin/runsv" ] && [ -d "$ROOT/etc/sv" ]; then INIT=runit
    elif [ -f "$ROOT/etc/inittab" ]; then INIT=busybox
    else fatal "Can not find systemd, OpenRC, runit or busybox init to use as a process supervisor for k3rs"
    fi
  fi
  case "$INIT" in
    systemd | openrc | runit | busybox) ;;
    *) fatal "INSTALL_K3RS_INIT is $INIT: want systemd, openrc, runit or busybox" ;;
  esac
}

settle() {
  case "${1:-}" in
    -* | "")
      if [ -z "${K3S_URL:-}" ]; then
        COMMAND=server
      else
        [ -n "${K3S_TOKEN:-}${K3S_TOKEN_FILE:-}" ] ||
          fatal "Defaulted k3s exec command to 'agent' because K3S_URL is defined, but K3S_TOKEN or K3S_TOKEN_FILE is not defined."
        COMMAND=agent
      fi
      ;;
    *)
      COMMAND=$1
      shift
      ;;
  esac
  case "$COMMAND" in server | agent) ;; *) fatal "the service runs k3rs server or k3rs agent, not $COMMAND" ;; esac
  case "${K3S_URL:-}" in "" | https://*) ;; *) fatal "Only https:// URLs are supported for K3S_URL (have $K3S_URL)" ;; esac
  if [ -n "${INSTALL_K3S_NAME:-}" ]; then
    NAME=k3s-$INSTALL_K3S_NAME
  elif [ "$COMMAND" = server ]; then
    NAME=k3s
  else
    NAME=k3s-agent
  fi
  case "$NAME" in *[!A-Za-z0-9._@-]*) fatal "Invalid characters for system name: $NAME" ;; esac
  BIN_DIR=${INSTALL_K3S_BIN_DIR:-}
  if [ -z "$BIN_DIR" ]; then
    BIN_DIR=/usr/local/bin
    mkdir -p "$ROOT$BIN_DIR" 2>/dev/null || true
    if ! { : > "$ROOT$BIN_DIR/.k3rs-ro-test" && rm -f "$ROOT$BIN_DIR/.k3rs-ro-test"; } 2>/dev/null && [ -d "$ROOT/opt/bin" ]; then BIN_DIR=/opt/bin; fi
  fi
  SYSTEMD_DIR=${INSTALL_K3S_SYSTEMD_DIR:-/etc/systemd/system}
  case "$BIN_DIR$SYSTEMD_DIR" in *[!A-Za-z0-9._/+@-]*) fatal "folders with other characters than letters, digits and ._/+@- are not supported: $BIN_DIR $SYSTEMD_DIR" ;; esac
  if [ "$INIT" = systemd ] && [ "${INSTALL_K3RS_PACKAGE:-}" != true ]; then ENV_FILE=$SYSTEMD_DIR/$NAME.service.env; else ENV_FILE=/etc/rancher/k3s/$NAME.env; fi
  case "$INIT" in
    systemd) UNIT=$SYSTEMD_DIR/$NAME.service ;;
    openrc) UNIT=/etc/init.d/$NAME ;;
    runit) UNIT=/etc/sv/$NAME/run ;;
    busybox) UNIT=/etc/rancher/k3s/$NAME.run ;;
  esac
  DATA_DIR=${K3S_DATA_DIR:-}
  WORDS='' UNIT_WORDS='' taken=''
  for word in "$@"; do
    case "$word" in *"
"*) fatal "a flag with a line break cannot be kept in a service" ;; esac
    if [ "$taken" = yes ]; then DATA_DIR=$word; fi
    case "$word" in
      -d | -data-dir | --data-dir) taken=yes ;;
      -d=* | -data-dir=* | --data-dir=*) DATA_DIR=${word#*=} taken='' ;;
      *) taken='' ;;
    esac
    quoted=$(quote "$word")
    WORDS="$WORDS $quoted"
    # systemd expands % and $ also in quotes.
    UNIT_WORDS="$UNIT_WORDS \\
	$(printf '%s' "$word" | sed 's/[\\"]/\\&/g; s/%/%%/g; s/\$/$$/g; s/^/"/; s/$/"/')"
  done
  if [ -n "$DATA_DIR" ]; then DATA_LINE="[ -n \"\${K3S_DATA_DIR:-}\" ] || export K3S_DATA_DIR=$(quote "$DATA_DIR")"; else DATA_LINE=; fi
}

quote() { printf '%s' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }

hashes() {
  for file in "$BIN_DIR/k3rs" "$UNIT" "$ENV_FILE"; do
    if [ -f "$ROOT$file" ]; then sha256sum "$ROOT$file"; fi
  done
}

# Writes a file with a mode, whole or not at all: put MODE FILE < content
put() {
  mkdir -p "$ROOT${2%/*}"
  (umask 077 && cat > "$ROOT$2.new")
  chmod "$1" "$ROOT$2.new"
  mv -f "$ROOT$2.new" "$ROOT$2"
}

# --- the program ---

arch() {
  case "${INSTALL_K3RS_ARCH:-$(uname -m)}" in
    x86_64 | amd64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    armv7* | armv8l | armhf | arm) echo armv7 ;;
    *) fatal "Unsupported architecture ${INSTALL_K3RS_ARCH:-$(uname -m)}" ;;
  esac
}

get_program() {
  if [ "${INSTALL_K3S_SKIP_DOWNLOAD:-}" = true ] || [ "${INSTALL_K3S_SKIP_DOWNLOAD:-}" = binary ] || [ "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}" = true ]; then
    info "Skipping k3rs download and verify"
    [ -x "$ROOT$BIN_DIR/k3rs" ] || fatal "Executable k3rs binary not found at $BIN_DIR/k3rs"
    check_version "$ROOT$BIN_DIR/k3rs"
    return
  fi
  if [ -f "$ROOT$BIN_DIR/k3s" ] && [ ! -L "$ROOT$BIN_DIR/k3s" ]; then
    fatal "k3s itself is installed at $BIN_DIR/k3s: stop it and move it away first (docs/how-to/migrate.md)"
  fi
  arch=$(arch)
  file=k3rs-$arch
  TMP=$(mktemp -d "${TMPDIR:-/tmp}/k3rs-install.XXXXXX")
  here=$(cd "$(dirname "$0")" 2>/dev/null && pwd) || here=
  if [ -n "${INSTALL_K3RS_FILE:-}" ]; then
    source=$INSTALL_K3RS_FILE
    file=${source##*/}
    sums=$(dirname "$source")/SHA256SUMS
  elif [ -n "${INSTALL_K3RS_URL:-}" ]; then
    url=${INSTALL_K3RS_URL%/}${INSTALL_K3S_VERSION:+/$INSTALL_K3S_VERSION}
    case "$url" in
      https://*) ;;
      http://*) [ -n "${INSTALL_K3RS_SHA256:-}" ] || fatal "what comes over http:// could be anybody's: INSTALL_K3RS_SHA256 has to say the digest" ;;
      *) fatal "INSTALL_K3RS_URL is $INSTALL_K3RS_URL: want https://" ;;
    esac
    sums=$TMP/SHA256SUMS
    if [ -z "${INSTALL_K3RS_SHA256:-}" ]; then
      info "Downloading hash $url/SHA256SUMS"
      download "$sums" "$url/SHA256SUMS"
    fi
    info "Downloading binary $url/$file"
    source=$TMP/$file
    download "$source" "$url/$file"
  elif [ -n "$here" ] && [ -f "$here/$file" ]; then
    source=$here/$file
    sums=$here/SHA256SUMS
  else
    fatal "there is no $file beside this script: say INSTALL_K3RS_FILE or INSTALL_K3RS_URL"
  fi
  [ -f "$source" ] || fatal "there is no $source"
  want=${INSTALL_K3RS_SHA256:-}
  if [ -z "$want" ]; then
    [ -f "$sums" ] || fatal "nothing says the digest of $source: put SHA256SUMS beside it, or say INSTALL_K3RS_SHA256"
    want=$(sed -n "s/^\\([0-9a-f]\\{64\\}\\) [ *]$file\$/\\1/p" "$sums" | head -n 1)
    [ -n "$want" ] || fatal "$sums does not name $file"
  fi
  info "Verifying binary download"
  # What is checked is what is installed: it is copied first.
  mkdir -p "$ROOT$BIN_DIR"
  new=$ROOT$BIN_DIR/.k3rs.new
  cp "$source" "$new"
  have=$(sha256sum "$new")
  have=${have%% *}
  if [ "$have" != "$want" ]; then
    rm -f "$new"
    fatal "Download sha256 does not match $want, got $have"
  fi
  chmod 0755 "$new"
  old=$ROOT$BIN_DIR/k3rs
  if [ -z "$ROOT" ]; then
    check_version "$new" || { rm -f "$new"; exit 1; }
  fi
  if [ -f "$old" ] && [ "$(sha256sum < "$old")" != "$(sha256sum < "$new")" ]; then
    info "Keeping the program that is there as $BIN_DIR/k3rs.previous"
    cp -p "$old" "$old.previous.new" && mv -f "$old.previous.new" "$old.previous"
  fi
  info "Installing k3rs to $BIN_DIR/k3rs"
  # The name changes hands: a running program stays what it is.
  mv -f "$new" "$old"
}

check_version() {
  [ -z "$ROOT" ] || return 0
  said=$("$1" --version 2>/dev/null) || { warn "$1 does not run on this machine"; return 1; }
  case "$said" in "k3rs version "*) ;; *) warn "$1 is no k3rs: it says $said"; return 1 ;; esac
  if [ -n "${INSTALL_K3S_VERSION:-}" ] && [ "${said#k3rs version }" != "$INSTALL_K3S_VERSION" ]; then
    warn "INSTALL_K3S_VERSION is $INSTALL_K3S_VERSION, the program says ${said#k3rs version }"
    return 1
  fi
}

download() {
  if has curl; then curl -sfL --proto '=https,http' -o "$1" "$2" || fatal "Download failed: $2"
  elif has wget; then wget -q -O "$1" "$2" || fatal "Download failed: $2"
  else fatal "Can not find curl or wget for downloading files"
  fi
}

make_links() {
  if [ "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}" = true ] || [ "${INSTALL_K3S_SYMLINK:-}" = skip ]; then return; fi
  for link in k3s kubectl crictl ctr; do
    path=$ROOT$BIN_DIR/$link
    if [ -L "$path" ] && [ "$(readlink "$path")" = k3rs ]; then continue; fi
    if [ "${INSTALL_K3S_SYMLINK:-}" != force ]; then
      if [ -e "$path" ] || [ -L "$path" ]; then info "Skipping $BIN_DIR/$link symlink to k3rs, already exists"; continue; fi
      if [ -z "$ROOT" ] && has "$link"; then
        info "Skipping $BIN_DIR/$link symlink to k3rs, command exists in PATH at $(command -v "$link")"
        continue
      fi
    fi
    info "Creating $BIN_DIR/$link symlink to k3rs"
    rm -f "$path"
    ln -s k3rs "$path"
  done
}

# --- the scripts that take it back ---

# What both have: stopping and forgetting services, but only those that this script made.
stop_lines() {
  cat <<'LINES'
has() { command -v "$1" >/dev/null 2>&1; }
ours() { [ -f "$1" ] && grep -q 'k3rs: made by install.sh' "$1"; }
# A number may be another process's by now: it is ended if it runs our program.
end_process() {
  pid=$(cat "$1" 2>/dev/null) || return 0
  case "$(readlink "/proc/$pid/exe" 2>/dev/null)" in "$BIN_DIR/k3rs" | "$BIN_DIR/k3rs (deleted)") kill "$pid" || true ;; esac
}
stop_service() {
  if [ -d /run/systemd/system ] && [ -f "$SYSTEMD_DIR/$1.service" ]; then systemctl stop "$1" || true; fi
  if has rc-service && [ -f "/etc/init.d/$1" ]; then rc-service --ifstarted "$1" stop || true; fi
  if has sv && [ -d "/etc/sv/$1/supervise" ]; then sv -w 60 down "/etc/sv/$1" || true; fi
  if ours "/etc/rancher/k3s/$1.run"; then
    : > "/run/$1.stopped"
    end_process "/run/$1.pid"
  fi
}
services() {
  for file in "$SYSTEMD_DIR"/k3s*.service /etc/init.d/k3s* /etc/sv/k3s*/run /etc/rancher/k3s/k3s*.run; do
    ours "$file" || continue
    case "$file" in
      */run) file=${file%/run} ;;
      *.service) file=${file%.service} ;;
      *.run) file=${file%.run} ;;
    esac
    echo "${file##*/}"
  done | sort -u
}
LINES
}

make_killall() {
  if [ "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}" = true ]; then return; fi
  info "Creating killall script $BIN_DIR/k3s-killall.sh"
  {
    cat <<LINES
#!/bin/sh
# Stops k3rs's services, then ends k3rs and all pods: k3rs killall finds them by its own records.
[ "\$(id -u)" = 0 ] || { echo "k3s-killall.sh must run as root" >&2; exit 1; }
BIN_DIR=$BIN_DIR
SYSTEMD_DIR=$SYSTEMD_DIR
$DATA_LINE
LINES
    stop_lines
    cat <<LINES
for service in \$(services); do stop_service "\$service"; done
exec $BIN_DIR/k3rs killall "\$@"
LINES
  } | put 0755 "$BIN_DIR/k3s-killall.sh"
}

make_uninstall() {
  if [ "${INSTALL_K3S_BIN_DIR_READ_ONLY:-}" = true ] || [ "${INSTALL_K3RS_PACKAGE:-}" = true ]; then return; fi
  info "Creating uninstall script $BIN_DIR/$NAME-uninstall.sh"
  {
    cat <<LINES
#!/bin/sh
# Takes back what install.sh made for the service $NAME; with the last service also k3rs, its data and pods.
[ "\$(id -u)" = 0 ] || { echo "$NAME-uninstall.sh must run as root" >&2; exit 1; }
NAME=$NAME
BIN_DIR=$BIN_DIR
SYSTEMD_DIR=$SYSTEMD_DIR
$DATA_LINE
LINES
    stop_lines
    cat <<'LINES'
stop_service "$NAME"
if ours "$SYSTEMD_DIR/$NAME.service"; then
  if [ -d /run/systemd/system ]; then systemctl disable "$NAME" || true; fi
  rm -f "$SYSTEMD_DIR/$NAME.service" "$SYSTEMD_DIR/$NAME.service.env" "$SYSTEMD_DIR/multi-user.target.wants/$NAME.service"
  if [ -d /run/systemd/system ]; then systemctl reset-failed "$NAME" 2>/dev/null || true; systemctl daemon-reload || true; fi
fi
if ours "/etc/init.d/$NAME"; then
  if has rc-update; then rc-update delete "$NAME" default || true; fi
  rm -f "/etc/init.d/$NAME" "/etc/logrotate.d/$NAME"
fi
if ours "/etc/sv/$NAME/run"; then
  for place in /etc/service /var/service /etc/runit/runsvdir/default; do
    if [ -L "$place/$NAME" ]; then rm -f "$place/$NAME"; fi
  done
  rm -rf "/etc/sv/$NAME"
fi
if ours "/etc/rancher/k3s/$NAME.run"; then
  if [ -f /etc/inittab ]; then
    grep -v "k3rs: made by install.sh for $NAME\$" /etc/inittab | grep -v ":/etc/rancher/k3s/$NAME.run\$" > /etc/inittab.new
    cat /etc/inittab.new > /etc/inittab
    rm -f /etc/inittab.new
    kill -HUP 1 2>/dev/null || true
  fi
  rm -f "/etc/rancher/k3s/$NAME.run"
fi
rm -f "/etc/rancher/k3s/$NAME.env"
if [ -n "$(services)" ]; then
  echo "Other services of k3rs are here ($(services | tr '\n' ' ')): leaving k3rs and its data"
  rm -f "$BIN_DIR/$NAME-uninstall.sh" "/run/$NAME.pid" "/run/$NAME.stopped"
  exit 0
fi
if ! "$BIN_DIR/k3rs" killall || ! "$BIN_DIR/k3rs" uninstall; then
  echo "$NAME-uninstall.sh: k3rs and its data are left, see above" >&2
  exit 1
fi
for link in k3s kubectl crictl ctr; do
  if [ -L "$BIN_DIR/$link" ] && [ "$(readlink "$BIN_DIR/$link")" = k3rs ]; then rm -f "$BIN_DIR/$link"; fi
done
rm -f "/var/log/$NAME.log" "$BIN_DIR/k3rs" "$BIN_DIR/k3rs.previous" "$BIN_DIR/k3s-killall.sh" "$BIN_DIR/$NAME-uninstall.sh" "/run/$NAME.pid" "/run/$NAME.stopped"
LINES
  } | put 0755 "$BIN_DIR/$NAME-uninstall.sh"
}

# --- the service ---

make_env() {
  if [ "${INSTALL_K3RS_PACKAGE:-}" = true ]; then return; fi
  info "env: Creating environment file $ENV_FILE"
  names=$(env | sed -n 's/^\(K3S_[A-Za-z0-9_]*\|K3RS_[A-Za-z0-9_]*\|[A-Za-z_]*_PROXY\|[a-z]*_proxy\)=.*/\1/p' | sort -u)
  {
    for name in $names; do
      value=$(eval "printf '%s' \"\$$name\"")
      case "$value" in *"'"* | *"
"*) fatal "the value of $name has a quote or a line break, which cannot be kept for the service" ;; esac
      echo "$name='$value'"
    done
  } | put 0600 "$ENV_FILE"
}

MADE="# k3rs: made by install.sh"

unit_systemd() {
  info "systemd: Creating service file $UNIT"
  wants=network-online.target
  put 0644 "$UNIT" <<LINES
$MADE
[Unit]
Description=Lightweight Kubernetes (k3rs $COMMAND)
Wants=$wants
After=$wants
$(if [ "${INSTALL_K3RS_PACKAGE:-}" = true ] && [ "$COMMAND" = agent ]; then echo "Conflicts=k3s.service"; fi)

[Install]
WantedBy=multi-user.target

[Service]
Type=${INSTALL_K3S_TYPE:-notify}
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-$ENV_FILE
KillMode=process
Delegate=yes
User=root
# A limit costs nothing, and pods inherit it.
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=$BIN_DIR/k3rs $COMMAND$UNIT_WORDS

LINES
}
enable_systemd() {
  if [ -n "$ROOT" ] || [ ! -d /run/systemd/system ]; then
    mkdir -p "$ROOT$SYSTEMD_DIR/multi-user.target.wants"
    ln -sf "$UNIT" "$ROOT$SYSTEMD_DIR/multi-user.target.wants/$NAME.service"
  else
    systemctl enable "$UNIT" >/dev/null
    systemctl daemon-reload >/dev/null
  fi
}
start_systemd() {
  if [ ! -d /run/systemd/system ]; then warn "systemd does not run here: $NAME starts with it"; return; fi
  systemctl restart "$NAME"
}

unit_openrc() {
  info "openrc: Creating service file $UNIT"
  put 0755 "$UNIT" <<LINES
#!/sbin/openrc-run
$MADE

depend() {
    after network-online
    want cgroups
}

start_pre() {
    modprobe -q br_netfilter 2>/dev/null
    modprobe -q overlay 2>/dev/null
    return 0
}

supervisor=supervise-daemon
name="$NAME"
command="$BIN_DIR/k3rs"
command_args="$(printf '%s' "$COMMAND$WORDS" | sed 's/[\\"$`]/\\&/g')"
output_log=/var/log/$NAME.log
error_log=/var/log/$NAME.log
pidfile="/var/run/$NAME.pid"
respawn_delay=5
respawn_max=0

set -o allexport
if [ -f /etc/environment ]; then . /etc/environment; fi
if [ -f $ENV_FILE ]; then . $ENV_FILE; fi
set +o allexport
LINES
  put 0644 "/etc/logrotate.d/$NAME" <<LINES
/var/log/$NAME.log {
	missingok
	notifempty
	copytruncate
}
LINES
}
enable_openrc() {
  if [ -n "$ROOT" ]; then
    mkdir -p "$ROOT/etc/runlevels/default"
    ln -sf "$UNIT" "$ROOT/etc/runlevels/default/$NAME"
  else
    rc-update add "$NAME" default >/dev/null
  fi
}
start_openrc() {
  if [ ! -d /run/openrc ]; then warn "OpenRC does not run here: $NAME starts with it"; return; fi
  rc-service "$NAME" restart
}

# A script that becomes the service, for supervisors that know no environment files: run_lines OUTPUT [LINES]
run_lines() {
  cat <<LINES
#!/bin/sh
$MADE
${2:-}
exec $1
modprobe br_netfilter 2>/dev/null
modprobe overlay 2>/dev/null
set -a
if [ -f /etc/environment ]; then . /etc/environment; fi
if [ -f $ENV_FILE ]; then . $ENV_FILE; fi
set +a
exec $BIN_DIR/k3rs $COMMAND$WORDS
LINES
}

unit_runit() {
  info "runit: Creating service file $UNIT"
  run_lines '2>&1' | put 0755 "$UNIT"
  put 0755 "/etc/sv/$NAME/log/run" <<LINES
#!/bin/sh
mkdir -p /var/log/$NAME
exec svlogd -tt /var/log/$NAME
LINES
}
enable_runit() {
  for place in /etc/service /var/service /etc/runit/runsvdir/default; do
    if [ -d "$ROOT$place" ]; then
      ln -sfn "/etc/sv/$NAME" "$ROOT$place/$NAME"
      return
    fi
  done
  fatal "there is no /etc/service, /var/service or /etc/runit/runsvdir/default to enable $NAME in"
}
start_runit() {
  # runsvdir looks every five seconds; a service that runs already is started anew.
  if has sv && [ -d "/etc/sv/$NAME/supervise" ]; then sv restart "/etc/sv/$NAME" || true; else info "runsvdir starts $NAME within five seconds"; fi
}

unit_busybox() {
  info "busybox init: Creating service file $UNIT"
  # init starts a line that is there again and again: one that was stopped waits until the machine starts anew.
  run_lines ">> /var/log/$NAME.log 2>&1" "while [ -e /run/$NAME.stopped ]; do sleep 5; done
[ -e $UNIT ] || exit 0
echo \$\$ > /run/$NAME.pid" | put 0755 "$UNIT"
}
enable_busybox() {
  if ! grep -q ":/etc/rancher/k3s/$NAME.run\$" "$ROOT/etc/inittab" 2>/dev/null; then
    printf '%s\n%s\n' "$MADE for $NAME" "::respawn:/etc/rancher/k3s/$NAME.run" >> "$ROOT/etc/inittab"
  fi
}
start_busybox() {
  rm -f "/run/$NAME.stopped"
  # The one that runs is ended, pods run on; init starts the new one.
  pid=$(cat "/run/$NAME.pid" 2>/dev/null || true)
  case "$(readlink "/proc/$pid/exe" 2>/dev/null)" in "$BIN_DIR/k3rs" | "$BIN_DIR/k3rs (deleted)") kill "$pid" || true ;; esac
  kill -HUP 1 || warn "init does not take a signal: $NAME starts with the machine"
}

main "$@"
