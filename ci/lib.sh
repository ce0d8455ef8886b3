# What the scripts of this folder share. It is sourced, not run.
# shellcheck shell=bash

# Bytes stay bytes: a range means ASCII.
export LC_ALL=C

# What is for people goes to stderr: some scripts are asked for a value on stdout.
say() { printf '%s\n' "$*" >&2; }
fail() {
  say "${0##*/}: $*"
  exit 1
}
usage() {
  say "${0##*/}: $*"
  exit 64
}

# options '--name=VARIABLE …' "$@": reads `--name VALUE`, for which the variable may stand in. `help` is the script's.
options() {
  local known=" $1 " variable
  shift
  while (($#)); do
    if [[ $1 == --help ]]; then
      help
      exit
    fi
    variable=${known#* "$1="}
    [[ $1 == --* && $variable != "$known" ]] || usage "$1: no such option; --help lists them"
    (($# > 1)) || usage "$1: a value has to follow"
    export "${variable%% *}=$2"
    shift 2
  done
}

# required NAME MEANING: ends the script unless the variable has a value.
required() { [[ -n ${!1-} ]] || usage "$1: $2 is required"; }

# matches NAME PATTERN MEANING: ends the script unless the variable is empty or matches.
matches() { [[ -z ${!1-} || ${!1} =~ ^($2)$ ]] || usage "$1: '${!1}' is not $3"; }

tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || fail "$tool is missing; ci/install-tools gets it or says how"
  done
}

# A name, as Kubernetes has them.
# shellcheck disable=SC2034 # for whoever sources this
readonly kubernetes_name='[a-z0-9]([-a-z0-9.]*[a-z0-9])?'

# seconds DURATION: 90s, 15m or 1h as seconds; nothing if it is none.
seconds() {
  case $1 in
    *[!0-9smh]* | [smh]* | 0* | *[smh]?* | ???????*) ;;
    *s) echo "${1%s}" ;;
    *m) echo "$((${1%m} * 60))" ;;
    *h) echo "$((${1%h} * 3600))" ;;
  esac
}

# The tag of an image; nothing if it has none.
tag_of() {
  local name=${1%%@*}
  name=${name##*/}
  [[ $name != *:* ]] || echo "${name#*:}"
}

# Ends the script unless the image's tag names one build. The gateway asks for the same.
check_image() {
  local tag
  tag=$(tag_of "$1")
  case $tag in
    '') usage "$1 has no tag: one like v42-abc1234 is required" ;;
    latest) usage "$1: the tag 'latest' names no build: one like v42-abc1234 does" ;;
  esac
  [[ $tag =~ ^v(0|[1-9][0-9]*)-[0-9a-f]{4,64}$ ]] || usage "$1: the tag is not v{number}-{commit}, such as v42-abc1234"
}

# The image of each service, from the one of the gateway: NAME:TAG, NAME-contact-worker:TAG, NAME-deployer:TAG.
image_of() {
  local image=$1 service=$2 tag
  tag=$(tag_of "$image")
  [[ $service != gateway ]] || { echo "$image" && return; }
  echo "${image%:"$tag"}-$service:$tag"
}

# check_services VARIABLE: ends the script unless each word in it is one of our services, or the deployer with git.
check_services() {
  local service
  for service in ${!1}; do
    [[ " gateway contact-worker deployer deployer-git " == *" $service "* ]] ||
      usage "$1: '$service' is none; gateway, contact-worker, deployer and deployer-git are"
  done
}

# The digest that an image was pushed with; nothing if that is not known.
digest_of() {
  [[ ! -f $IMAGE_DIGESTS ]] || awk -v image="$1" '$1 == image { digest = $2 } END { print digest }' "$IMAGE_DIGESTS"
}

# The program that builds and pushes images.
container_tool() {
  local tool
  if [[ -z ${CONTAINER_TOOL-} ]]; then
    for tool in docker podman buildah; do
      ! command -v "$tool" >/dev/null || { CONTAINER_TOOL=$tool && return; }
    done
    fail 'docker, podman or buildah is missing; whoever runs the agent has to install one of them'
  fi
  matches CONTAINER_TOOL 'docker|podman|buildah' 'docker, podman or buildah'
  tools "$CONTAINER_TOOL"
}
