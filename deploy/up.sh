#!/usr/bin/env bash
# Brings up a cluster of three nodes with Docker Compose, and takes it down again. Safe to repeat.
#
# It builds the binary, makes certificates, wraps the binary into an image without any registry, founds the cluster once,
# starts the nodes, and waits until they are ready. Needs bash, Docker, Compose (V1 1.29 or V2) and GNU tar; no root.
set -euo pipefail

usage() {
    cat <<'END'
usage: deploy/up.sh [--binary FILE] [--project NAME] [--state DIR] [--image TAG] [--name HOST]...
       deploy/up.sh --down [--volumes] [--project NAME]

  --binary FILE    use this binary instead of building a static one; what it loads is put into the image
  --project NAME   the Compose project                                          [statehouse]
  --state DIR      where certificates, token and the image's context are kept   [deploy/local]
  --image TAG      the image's name                                             [statehouse:local]
  --name HOST      one more name of this machine in certificates made now
  --down           stop and remove the containers and networks; data stays
  --volumes        with --down: remove the data too, for good

Ports, restart policy and more come from the environment: see the head of deploy/compose.yaml.
END
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
readonly nodes=3
readonly user=10001
# Ten minutes of patience would only hide a cluster that never comes.
readonly ready_seconds_max=120

binary=""
project="${STATEHOUSE_PROJECT:-statehouse}"
state="$here/local"
image="${STATEHOUSE_IMAGE:-statehouse:local}"
names=()
down=false
volumes=false

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $1"
    say "  next: $2"
    exit 1
}

value() {
    [ "$2" -ge 2 ] || fail "$1 needs a value" "deploy/up.sh --help"
}

while [ $# -gt 0 ]; do
    case "$1" in
        --binary) value "$1" $#; binary="$2"; shift 2 ;;
        --project) value "$1" $#; project="$2"; shift 2 ;;
        --state) value "$1" $#; state="$2"; shift 2 ;;
        --image) value "$1" $#; image="$2"; shift 2 ;;
        --name) value "$1" $#; names+=(--name "$2"); shift 2 ;;
        --down) down=true; shift ;;
        --volumes) volumes=true; shift ;;
        --help|-h) usage; exit 0 ;;
        *) fail "unknown argument $1" "deploy/up.sh --help" ;;
    esac
done

if $volumes && ! $down; then
    fail "--volumes removes data, and goes with --down only" "deploy/up.sh --down --volumes"
fi
[[ "$project" =~ ^[a-z0-9][a-z0-9_-]*$ ]] ||
    fail "--project $project is no name for Compose" "use lower-case letters, digits, - and _"
command -v docker >/dev/null ||
    fail "there is no docker" "install the Docker engine and its command line"
docker info >/dev/null 2>&1 ||
    fail "no Docker engine answers" "start it (systemctl start docker), or join the group docker"

if docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose_command=(docker-compose)
else
    fail "there is no Docker Compose" "install docker-compose 1.29, or the compose plugin of docker"
fi

compose() {
    "${compose_command[@]}" --project-name "$project" --file "$here/compose.yaml" "$@"
}

# Prints the container of a service: by its labels, because the two Composes name containers differently.
container() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$1" --filter "label=com.docker.compose.oneoff=False"
}

if $down; then
    if $volumes; then
        compose down --volumes --remove-orphans
    else
        compose down --remove-orphans
    fi
    exit 0
fi

mkdir -p "$state"
state="$(cd "$state" && pwd)"
readonly certs="$state/certs"
export STATEHOUSE_IMAGE="$image" STATEHOUSE_NODES="$state/nodes"

# Removed whatever happens: a container that only carries files to where their owner is set.
carrier=""
trap '[ -z "$carrier" ] || docker rm --force "$carrier" >/dev/null' EXIT

build_binary() {
    command -v cargo >/dev/null ||
        fail "there is no cargo to build the binary with" "install Rust, or give a binary with --binary"
    local target
    target="$(rustc -vV | sed -n 's/^host: //p')"
    say "building a static binary; the first time takes some minutes"
    (cd "$here/.." && RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --release -p statehouse --target "$target")
    binary="${CARGO_TARGET_DIR:-$here/../target}/$target/release/statehouse"
}

# Prepares the image's context, with all that a dynamically linked binary loads at the place where it looks for it.
build_image() {
    local context="$state/image" library
    rm -rf "$context"
    mkdir -p "$context/program" "$context/owned/data"
    # A link costs nothing; across file systems it is a copy.
    ln -L "$binary" "$context/program/statehouse" 2>/dev/null || cp "$binary" "$context/program/statehouse"
    chmod 0755 "$context" "$context/program" "$context/owned" "$context/owned/data"
    # `ldd` fails for a static binary and says nothing that looks like a file.
    for library in $(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' || true); do
        mkdir -p "$context/program$(dirname "$library")"
        cp --dereference "$library" "$context/program$library"
    done
    # Without buildx there is only the classic builder, which has to be asked for; the file suits both.
    local buildkit=1
    docker buildx version >/dev/null 2>&1 || buildkit=0
    DOCKER_BUILDKIT=$buildkit docker build --quiet --file "$here/Dockerfile.prebuilt" --tag "$image" "$context" >/dev/null \
        2>"$state/build.log" || { cat "$state/build.log" >&2; false; } ||
        fail "the image $image was not built" "read the lines above; is there space below /var/lib/docker?"
}

make_certificates() {
    if [ -e "$certs/node-$nodes.pem" ]; then
        [ "${#names[@]}" -eq 0 ] || say "the certificates in $certs are kept as they are; --name changes nothing"
        return 0
    fi
    "$binary" cluster certs --out "$certs" --nodes "$nodes" "${names[@]}" >/dev/null ||
        fail "no certificates were made in $certs" "follow the line above, or remove that folder to begin anew"
}

# Gives each node its own papers, readable by its user alone. Only the engine may set an owner without root, so the
# files travel into the mounted folder through a container that never runs.
hand_out_papers() {
    local node folder print
    for node in $(seq "$nodes"); do
        folder="$STATEHOUSE_NODES/node-$node"
        mkdir -p "$folder"
        chmod 0755 "$folder"
        # A node that runs keeps what it has: only other papers take the place of those that were handed out.
        print="$(cat "$certs/ca.pem" "$certs/cookie" "$certs/node-$node.pem" "$certs/node-$node-key.pem" | sha256sum)"
        [ "$(cat "$folder/.handed-out" 2>/dev/null)" != "$print" ] || continue
        # What stands there has another owner; the folder is ours.
        rm -f "$folder"/* "$folder/.handed-out"
        carrier="$(docker create --volume "$folder:/papers" "$image")"
        tar --create --directory "$certs" --owner="$user" --group="$user" --mode=0600 --file - \
            ca.pem cookie "node-$node.pem" "node-$node-key.pem" |
            docker cp - "$carrier:/papers"
        docker rm --force "$carrier" >/dev/null
        carrier=""
        printf '%s\n' "$print" > "$folder/.handed-out"
    done
}

# Says whether every node runs already.
is_running() {
    local node
    for node in $(seq "$nodes"); do
        [ "$(docker inspect --format '{{.State.Status}}' "$(container "node-$node")" 2>/dev/null)" = running ] || return 1
    done
}

# Puts containers of another image in the place of running ones: one node after the other, and the next one only when all
# are whole again. Compose would do it to all at once.
renew() {
    local node wanted
    wanted="$(docker image inspect --format '{{.Id}}' "$image")"
    for node in $(seq "$nodes"); do
        [ "$(docker inspect --format '{{.Image}}' "$(container "node-$node")")" != "$wanted" ] || continue
        printf 'node-%s gets the new image\n' "$node" >&2
        compose rm --stop --force "node-$node" >&2
        compose up --detach --no-deps "node-$node" >&2
        wait_until_ready
    done
}

# Says whether a file stands in the data of a node.
holds() {
    docker cp "$(container "node-$1"):/data/$2" - >/dev/null 2>&1
}

# Founds the cluster in the empty volume of node 1, once. A mark in the volume says that it was done to the end. A volume
# that was lost is not taken for a new cluster while another node still holds the old one.
found() {
    local node
    ! holds 1 founded || return 0
    for node in $(seq 2 "$nodes"); do
        if holds "$node" "node-$node/identity.json"; then
            # Joined again, in the place of the one that was lost.
            ! holds 1 node-1/identity.json || return 0
            fail "node $node belongs to a cluster, but the data of node 1 is gone" \
                "runbooks/operate/compose.md, \"A node lost its data\"; nothing was started"
        fi
    done
    say "founding the cluster"
    compose run --rm --no-deps -T node-1 cluster init >/dev/null ||
        fail "the cluster was not founded" "follow the line above, then repeat this command"
    : > "$state/founded"
    tar --create --directory "$state" --owner="$user" --group="$user" --file - founded |
        docker cp - "$(container node-1):/data"
}

# The token is new with every founding, and never changes afterwards.
fetch_token() {
    if holds 1 admin-token; then
        docker cp "$(container node-1):/data/admin-token" - | tar --extract --to-stdout --file - |
            (umask 077 && cat > "$state/admin-token")
    elif [ ! -e "$state/admin-token" ]; then
        fail "there is no token in $state/admin-token, and none in the data of node 1" \
            "put a token with all roles there, then repeat this command"
    fi
}

servers() {
    local host="${STATEHOUSE_HOST:-127.0.0.1}"
    printf 'https://%s:%s,https://%s:%s,https://%s:%s' "$host" "${STATEHOUSE_PORT_1:-7400}" \
        "$host" "${STATEHOUSE_PORT_2:-7401}" "$host" "${STATEHOUSE_PORT_3:-7402}"
}

client() {
    "$binary" "$@" --ca-file "$certs/ca.pem" --timeout 2s
}

# Says whether every node votes on every shard: before that, the loss of one could stop the others.
is_whole() {
    local status voters shards
    status="$(client cluster status --output json --servers "$(servers)" --token-file "$state/admin-token" 2>/dev/null)" ||
        return 1
    voters="$(grep -o '"part": *"voter"' <<<"$status" | wc -l)"
    shards="$(grep -o '"shard":' <<<"$status" | wc -l)"
    [ "$shards" -gt 0 ] && [ "$voters" -eq $((shards * nodes)) ]
}

# What a shell needs, so that `statehouse` finds this cluster without flags.
# shellcheck disable=SC2016  # the shell that reads the file is to expand it
write_environment() {
    {
        printf 'export STATEHOUSE_SERVERS=%q\n' "$(servers)"
        printf 'export STATEHOUSE_CA_FILE=%q\n' "$certs/ca.pem"
        printf 'STATEHOUSE_TOKEN="$(cat %q)"\nexport STATEHOUSE_TOKEN\n' "$state/admin-token"
        printf 'export PATH=%q:"$PATH"\n' "$(dirname "$binary")"
    } > "$state/environment"
}

# Waits until every node is ready and votes, and fails as soon as one has ended.
wait_until_ready() {
    local server node=0 begin=$SECONDS running
    for server in $(servers | tr ',' ' '); do
        node=$((node + 1))
        until client health --ready --servers "$server" >/dev/null 2>&1; do
            running="$(docker inspect --format '{{.State.Status}}' "$(container "node-$node")")"
            if [ "$running" = exited ] || [ "$running" = dead ]; then
                compose logs --tail 20 "node-$node" >&2 || true
                fail "node-$node has ended" "read its last lines above"
            fi
            if [ $((SECONDS - begin)) -ge "$ready_seconds_max" ]; then
                compose logs --tail 20 "node-$node" >&2 || true
                fail "node-$node was not ready within $ready_seconds_max seconds" "read its last lines above"
            fi
            sleep 0.2
        done
    done
    until is_whole; do
        [ $((SECONDS - begin)) -lt "$ready_seconds_max" ] ||
            fail "not every node votes on every shard after $ready_seconds_max seconds" \
                "look at: statehouse cluster status, and at the nodes' lines: docker logs"
        sleep 0.2
    done
}

[ -n "$binary" ] || build_binary
{ [ -f "$binary" ] && [ -x "$binary" ]; } || fail "$binary is no program" "build it first, or leave --binary out"
binary="$(realpath "$binary")"
make_certificates
build_image
hand_out_papers
if is_running && holds 1 founded; then
    fetch_token
    renew
else
    compose up --no-start >&2
    found
fi
compose up --detach >&2
fetch_token
wait_until_ready
write_environment
printf '%s\n' \
    "APIs    $(servers | tr ',' ' ')" \
    "token   $state/admin-token" \
    "CA      $certs/ca.pem" \
    "try     source $state/environment && statehouse cluster status" \
    "end     $here/up.sh --down --project $project   (--volumes removes the data too)"
