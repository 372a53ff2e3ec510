#!/bin/bash
# What `deploy/debian/try` runs inside a fresh Debian, with systemd as its first process: the package is installed, runs,
# is upgraded, removed and purged. Ends with 0 if everything was as it should be.
set -eu
cd /packages
export DEBIAN_FRONTEND=noninteractive
FIRST=$(ls first/*.deb) SECOND=$(ls second/*.deb)
SERVICES="livestream-producer livestream-ingester livestream-producer@web-1 livestream-ingester@web-1"
DATABASES="/var/lib/livestream/producer /var/lib/livestream/ingester
    /var/lib/livestream/web-1/producer /var/lib/livestream/web-1/ingester"

step() { echo; echo "== $*"; }
fail() {
    echo "FAILED: $*"
    journalctl --no-pager -q -n 60 || true
    exit 1
}
show() { echo "\$ $*"; "$@"; }
property() { systemctl show -p "$2" --value "$1"; }
is() { # <what> <value> <expected>
    [ "$2" = "$3" ] || fail "$1 is \"$2\", not \"$3\""
    echo "$1: $2"
}
as_service() { runuser -u livestream -- "$@"; }
mode() { stat -c '%U:%G %a' "$1"; }
databases() { for dir in $DATABASES; do stat -c '%n %i' "$dir/sled/db"; done; }
configuration() { find /etc/livestream -type f -exec sha256sum {} + | sort -k 2; }

step "install"
show dpkg -i "$FIRST"
is "/etc/livestream" "$(mode /etc/livestream)" "root:livestream 750"
is "/var/lib/livestream" "$(mode /var/lib/livestream)" "livestream:livestream 700"
is "/var/log/livestream" "$(mode /var/log/livestream)" "livestream:livestream 750"
for service in livestream-producer livestream-ingester; do
    is "$service at boot" "$(systemctl is-enabled $service || true)" disabled
    is "$service now" "$(systemctl is-active $service || true)" inactive
done
for program in producer ingester state; do
    show $program --version
    for page in man1/$program.1.gz man1/$program-$([ $program = state ] && echo dump || echo run).1.gz; do
        [ -s "/usr/share/man/$page" ] || fail "no page $page"
    done
    [ -s /usr/share/bash-completion/completions/$program ] || fail "no completion of $program for bash"
    [ -s /usr/share/zsh/vendor-completions/_$program ] || fail "no completion of $program for zsh"
    [ -s /usr/share/fish/vendor_completions.d/$program.fish ] || fail "no completion of $program for fish"
done
show bash -c '. /usr/share/bash-completion/completions/producer && complete -p producer'

step "the units, by systemd's own checks"
for service in $SERVICES; do
    show systemd-analyze verify --man=no "$service.service"
    systemd-analyze security --no-pager "$service.service" | tail -n 1
    systemd-analyze security --no-pager --threshold=20 "$service.service" >/dev/null || fail "$service is exposed"
done

step "producer init"
export LIVESTREAM__ADOBE__CLIENT_SECRET=secret-of-adobe LIVESTREAM__REDSHIFT__PASSWORD=secret-of-redshift
for name in pipeline web-1; do
    show producer init --config /etc/livestream/$name.toml --yes --client-id 0123456789abcdef \
        --stream-url https://livestream.adobe.net/api/1/stream/trial --bucket trial --region eu-central-1 \
        --redshift-host trial.abc123.eu-central-1.redshift.amazonaws.com --database trial --prefix $name \
        --iam-role arn:aws:iam::123456789012:role/trial || fail "init"
done
unset LIVESTREAM__ADOBE__CLIENT_SECRET LIVESTREAM__REDSHIFT__PASSWORD
find /etc/livestream -type f -exec stat -c '%U:%G %a %n' {} +
[ -z "$(find /etc/livestream -perm /007)" ] || fail "others may read something in /etc/livestream"
is "the ports of web-1" "$(grep -c '127.0.0.1:946[67]' /etc/livestream/web-1.toml)" 2
as_service producer schema --config /etc/livestream/web-1.toml | tail -n 1
# No neighbour is there: this Debian has no network. A credential is needed to get so far.
printf 'AWS_ACCESS_KEY_ID=trial\nAWS_SECRET_ACCESS_KEY=trial\n' >/etc/livestream/environment
chmod 600 /etc/livestream/environment

step "start, each until it is ready"
for service in $SERVICES; do
    show timeout 120 systemctl start $service || fail "$service did not start"
    is "$service" "$(property $service ActiveState)/$(property $service SubState)" active/running
    is "its watchdog" "$(property $service WatchdogUSec)" 3min
done
sleep 12
for service in $SERVICES; do
    echo "$service: $(property $service StatusText)"
    [ -n "$(property $service StatusText)" ] || fail "$service does not say what it does"
    is "its restarts" "$(property $service NRestarts)" 0
done
show as_service state dump
show as_service state dump --config /etc/livestream/web-1.toml
as_service state verify && as_service state verify --config /etc/livestream/web-1.toml || fail "state verify"
is "the log of web-1" "$(mode /var/lib/livestream/web-1/producer)" "livestream:livestream 700"

step "a service takes a changed configuration while it runs, and refuses a wrong one"
for service in livestream-producer livestream-ingester; do
    before=$(property $service MainPID)
    echo '[alerts]' >>/etc/livestream/pipeline.toml
    echo 'repeat = "2h"' >>/etc/livestream/pipeline.toml
    show systemctl reload $service || fail "$service was not reloaded"
    for _ in $(seq 20); do
        journalctl --no-pager -q -u $service | grep -q "configuration reloaded" && break
        sleep 1
    done
    journalctl --no-pager -q -u $service | grep "configuration reloaded" | tail -n 1 | grep "alerts.repeat" ||
        fail "$service does not say what it took"
    sed -i 's/^repeat = "2h"$/repaet = "2h"/' /etc/livestream/pipeline.toml
    show systemctl reload $service || true
    for _ in $(seq 20); do
        journalctl --no-pager -q -u $service | grep -q "is not reloaded" && break
        sleep 1
    done
    journalctl --no-pager -q -u $service | grep -q "is not reloaded" || fail "$service takes a wrong configuration"
    sed -i -e '/^\[alerts\]$/d' -e '/^repaet = /d' /etc/livestream/pipeline.toml
    is "$service" "$(property $service ActiveState)/$(property $service SubState)" active/running
    is "its process" "$(property $service MainPID)" "$before"
done

step "a service that stands still is started again"
mkdir -p /run/systemd/system/livestream-producer@web-1.service.d
printf '[Service]\nWatchdogSec=4s\n' >/run/systemd/system/livestream-producer@web-1.service.d/trial.conf
systemctl daemon-reload
systemctl restart livestream-producer@web-1
before=$(property livestream-producer@web-1 MainPID)
sleep 10
is "a service that runs, after two watchdogs and a half" "$(property livestream-producer@web-1 MainPID)" "$before"
kill -STOP "$before"
for _ in $(seq 40); do
    sleep 1
    [ "$(property livestream-producer@web-1 NRestarts)" = 0 ] || break
done
is "restarts of the one that was halted" "$(property livestream-producer@web-1 NRestarts)" 1
journalctl --no-pager -q -u livestream-producer@web-1 | grep -i watchdog | head -n 2
rm -r /run/systemd/system/livestream-producer@web-1.service.d
systemctl daemon-reload
systemctl restart livestream-producer@web-1

step "upgrade"
systemctl enable livestream-producer livestream-ingester 2>&1
systemctl stop livestream-ingester@web-1
databases >/tmp/databases
configuration >/tmp/configuration
for service in $SERVICES; do property $service MainPID; done >/tmp/processes
show dpkg -i "$SECOND"
is "the version" "$(dpkg-query -W -f '${Version}' livestream)" "$(dpkg-deb -f "$SECOND" Version)"
databases | diff - /tmp/databases || fail "a database is another"
configuration | diff - /tmp/configuration || fail "the configuration is another"
for service in $SERVICES; do
    expected=active
    [ $service != livestream-ingester@web-1 ] || expected=inactive
    is "$service" "$(systemctl is-active $service || true)" $expected
done
for service in $SERVICES; do property $service MainPID; done | paste - /tmp/processes
! for service in $SERVICES; do property $service MainPID; done | paste - /tmp/processes |
    awk '$1 != 0 && $1 == $2 { same = 1 } END { exit !same }' || fail "a service was not started again"
as_service state verify || fail "state verify"

step "remove"
show dpkg -r livestream
[ ! -e /usr/bin/producer ] || fail "a program is left"
is "services that run" "$(pgrep -c -u livestream . || true)" 0
databases | diff - /tmp/databases || fail "a database is gone"
configuration | diff - /tmp/configuration || fail "the configuration is gone"

step "install again: all goes on"
show dpkg -i "$SECOND"
is "livestream-producer at boot" "$(systemctl is-enabled livestream-producer)" enabled
show systemctl start livestream-producer
databases | diff - /tmp/databases || fail "a database is another"

step "purge, without being told to delete data"
show dpkg -P livestream 2>&1 | tee /tmp/purged
grep -q "kept /var/lib/livestream" /tmp/purged || fail "it does not say what it kept"
databases | diff - /tmp/databases || fail "a database is gone"
configuration | diff - /tmp/configuration || fail "the configuration is gone"
[ ! -e /var/log/livestream ] || fail "log files are left"
[ -z "$(find /etc/systemd -name 'livestream-*')" ] || fail "units are still enabled"

step "purge, told to delete data"
dpkg -i "$SECOND" >/dev/null
echo "livestream livestream/remove_data boolean true" | debconf-set-selections
show dpkg -P livestream
for dir in /var/lib/livestream /etc/livestream /var/log/livestream; do
    [ ! -e $dir ] || fail "$dir is left"
done
is "the user" "$(id -un livestream)" livestream

echo
echo "the package is in order"
