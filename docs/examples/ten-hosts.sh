#!/usr/bin/env bash
# From nothing to ten enrolled hosts on this machine, then every way back in that docs/identities.md names and that does
# not need a certificate to end first. Nothing is simulated; each host is a folder instead of a machine.
# Usage: ten-hosts.sh DIR [PORT]    DIR is made; PORT and the next one are listened on [8200]
# Needs strongroomd and strongroom in the PATH.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,5s/^# //p' "$0"; exit 2; }
mkdir "$1" && cd "$1"
port=${2:-8200}
enroll=$((port + 1))

say() { printf '\n== %s\n' "$1"; }
on() { XDG_CONFIG_HOME="$PWD/$1" strongroom "${@:2}"; } # on WHOM COMMAND …: with that one's profile
fails() { if "$@" >out 2>&1; then echo "should have failed: $*" >&2; exit 1; else sed 's/^/   /' out; fi; }

say 'a vault, its two listeners, its first operator'
passphrase=$(head -c 24 /dev/urandom | base64)
strongroomd init --data vault --trust-domain example.org --listen "127.0.0.1:$port" --enroll-listen "127.0.0.1:$enroll" \
  --operator alice --bundle alice.first --passphrase-fd 0 <<<"$passphrase"
strongroomd server --data vault 2>vault.log &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true' EXIT
on alice profile add prod --bundle alice.first --move --address "https://localhost:$port"
for try in $(seq 100); do on alice status >/dev/null 2>&1 || [ $? = 5 ] && break; sleep 0.1; done
on alice unseal --fd 0 <<<"$passphrase"

say 'a secret and a policy'
printf 'DB_PASSWORD=%s\n' "$(head -c 9 /dev/urandom | base64)" >.env
on alice import -y .env app/prod && rm .env
printf 'path "secret/data/app/*" {\n  capabilities = ["read"]\n}\n' >app.hcl
on alice policy write app app.hcl

say 'ten hosts'
for n in 0 1 2 3 4 5 6 7 8 9; do
  on alice enroll create "app/w$n" --policy app | on "w$n" enroll -
done
for n in 0 1 2 3 4 5 6 7 8 9; do
  on "w$n" run app/prod -- sh -c 'test -n "$DB_PASSWORD"' && echo "w$n has its secret"
done
on alice identity list app
for n in 0 1 2 3 4 5 6 7 8 9; do on "w$n" renew; done

say 'a key was stolen: end it, enrol again'
on alice identity revoke app/w0 -y
fails on w0 get app/prod DB_PASSWORD
on alice enroll create app/w0 | on w0 enroll --replace -
on w0 run app/prod -- true

say 'a copy was used to renew: the identity is frozen'
cp -a w1 thief
on w1 renew
fails on thief renew
fails on w1 get app/prod DB_PASSWORD
on alice identity revoke app/w1 -y
on alice identity enable app/w1
on alice enroll create app/w1 | on w1 enroll --replace -
on w1 run app/prod -- true

say 'a CA file was lost: the one of the vault, over a way that nobody else can write to'
: >w2/strongroom/profiles/default/current/ca.pem
fails on w2 get app/prod DB_PASSWORD
cp vault/tls/ca.pem w2/strongroom/profiles/default/current/ca.pem
on w2 run app/prod -- true

say 'a host without a way to the listener: files go, the key stays'
on w10 client csr --out w10/web
on alice identity set app/w10 --policy app
on alice client issue --csr w10/web/csr.pem --identity app/w10 --out w10/web/cert.pem --ca-out w10/web/ca.pem
on w10 profile add prod --bundle w10/web --move --address "https://localhost:$port"
on w10 run app/prod -- true

say 'the operator lost everything: the local socket'
rm -r alice
strongroomd admin operator --data vault --identity operator/alice --out alice.new --passphrase-fd 0 <<<"$passphrase"
on alice profile add prod --bundle alice.new --move --address "https://localhost:$port"
on alice identity list app

say 'the authority may be known to others: a new one, and everybody is enrolled again'
on alice ca compromise -y
fails on w3 get app/prod DB_PASSWORD
on alice enroll create app/w3 | on w3 enroll --replace -
on w3 run app/prod -- true

say 'done: every step did what docs/identities.md says'
