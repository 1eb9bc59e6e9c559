# shellcheck shell=bash
# What the scripts beside this file share; it is sourced, never run.
#
# `prepare_package` makes .venv and installs the package from this checkout, `prepare_tests` adds what its tests need.
# Both do nothing when that was done before with the same inputs. Set PYTHON to choose the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cache=$root/.cache

# An activated .venv must not be the interpreter that makes .venv anew.
PATH=${PATH//"$venv/bin:"/}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# Run a command as root: directly, or by sudo, which asks for a password only where somebody can type it.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    return 1
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# Install Debian packages; their lists are fetched only where they are absent or too old to serve.
apt_install() {
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@")
  command -v apt-get >/dev/null || return 1
  say "Installing $* by apt"
  as_root "${install[@]}" >/dev/null 2>&1 ||
    { as_root apt-get -qq update && as_root "${install[@]}"; } >/dev/null
}

# Set `python` to the first interpreter that is new enough, and `identity` to what sets it apart from others.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if identity=$("$candidate" -c '
import sys
sys.version_info >= (3, 11) or sys.exit(1)
print(sys.version, sys.base_prefix)' 2>/dev/null); then
      python=$candidate
      return 0
    fi
  done
  return 1
}

# A step's record is a copy of its inputs, headed by the interpreter and the place, both of which a venv depends on.
inputs_of() { (cd "$root" && printf '%s\n' "$identity" "$root" && cat "$@"); }

is_done() {
  local record=$venv/.done-$1
  shift
  [ -x "$venv/bin/python" ] && [ -f "$record" ] && inputs_of "$@" | cmp -s - "$record"
}

set_done() {
  local record=$venv/.done-$1
  shift
  inputs_of "$@" >"$record"
}

pip_install() {
  PIP_USER=0 "$1/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --progress-bar off "${@:2}"
}

make_venv() {
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    local package
    package=$("$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
    apt_install "$package" || die "$python cannot make a virtual environment: as root, run 'apt-get install $package'"
  fi
  "$python" -m venv --clear "$1"
}

prepare_package() {
  local pins=(deploy/requirements.txt .ci/requirements-build.txt)
  find_python || {
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not Python 3.11 or later"
    { apt_install python3 python3-venv && find_python; } || die "Python 3.11 or later is needed; set PYTHON to its path"
  }
  if ! is_done runtime "${pins[@]}"; then
    say "Making .venv with $("$python" --version)"
    make_venv "$venv"
    pip_install "$venv" --require-hashes "${pins[@]/#/--requirement=$root/}"
    set_done runtime "${pins[@]}"
  fi
  if ! is_done package pyproject.toml; then
    say "Installing defender-sidecar from this checkout"
    pip_install "$venv" --no-deps --no-build-isolation --editable "$root"
    set_done package pyproject.toml
  fi
}

have_prometheus() { prometheus --version && promtool --version; } >/dev/null 2>&1

# The proxies that tests/fidelity holds the sidecar against, found where tests/fidelity/peers.py looks for them. The
# third, Envoy, comes with the Python packages.
have_peers() (
  libraries=$(find "$cache/peers/usr/lib" -name '*.so.*' -exec dirname {} + 2>/dev/null | sort -u | paste -sd: -)
  PATH=$PATH:/usr/sbin:$cache/peers/usr/sbin
  [ -z "$libraries" ] || export LD_LIBRARY_PATH=$libraries
  nginx -v && haproxy -v
) >/dev/null 2>&1

# The browser that tests/test_page.py looks at the status page with, found where it looks. Below .cache it has its
# libraries and fonts beside it.
have_chromium() { chromium --version || unpacked_chromium --version; } >/dev/null 2>&1

unpacked_chromium() (
  libraries=$(find "$cache/chromium" -name '*.so*' -exec dirname {} + 2>/dev/null | sort -u | paste -sd: -)
  export LD_LIBRARY_PATH=$libraries
  "$cache/chromium/usr/lib/chromium/chromium" "$@"
)

private=(-o "Dir::State::Lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt/archives" -o Acquire::Languages=none)

# Debian's own packages are unpacked below .cache: no root is needed, and no service is started on this machine. Where
# the machine's package lists do not serve, a private copy of them is fetched, which needs no root either.
# unpack_debian FOLDER PACKAGE...
unpack_debian() (
  options=(-qq -o "APT::Sandbox::User=$(id -un)")
  mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial" "$cache/$1" && cd "$cache/apt" || return
  apt-get "${options[@]}" download "${@:2}" >/dev/null 2>&1 ||
    { apt-get "${options[@]}" "${private[@]}" update && apt-get "${options[@]}" "${private[@]}" download "${@:2}"; } >&2 ||
    return
  for package in *.deb; do
    dpkg -x "$package" "$cache/$1" || return
  done
  rm -f -- *.deb
)

# Debian 12 has both programs in one package, Debian 13 has promtool in its own.
unpack_prometheus() {
  rm -rf "$cache/apt" "$cache/prometheus"
  unpack_debian prometheus prometheus || return
  [ -x "$cache/prometheus/usr/bin/promtool" ] || unpack_debian prometheus promtool || return
  rm -rf "$cache/apt"
}

# Print the packages of shared libraries that PACKAGE... need and this machine lacks; their names differ by release.
missing_libraries() {
  local options=() direct all package
  [ -z "$(find "$cache/apt/lists" -maxdepth 1 -type f)" ] || options=("${private[@]}")
  direct=$(apt-cache "${options[@]}" depends "$@" | sed -n 's/^ *\(Pre\)\{0,1\}Depends: \(lib[^ ]*\)$/\2/p' | sort -u)
  # shellcheck disable=SC2086
  all=$(apt-cache "${options[@]}" depends --recurse --important $direct | grep '^lib' | sort -u)
  for package in $all; do
    dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
      printf '%s\n' "$package"
  done
}

unpack_peers() {
  local libraries
  rm -rf "$cache/apt" "$cache/peers"
  unpack_debian peers nginx haproxy || return
  libraries=$(missing_libraries nginx haproxy) || return
  # shellcheck disable=SC2086
  [ -z "$libraries" ] || unpack_debian peers $libraries || return
  rm -rf "$cache/apt"
  have_peers
}

unpack_chromium() {
  local libraries
  rm -rf "$cache/apt" "$cache/chromium"
  unpack_debian chromium chromium chromium-common fonts-dejavu-core || return
  libraries=$(missing_libraries chromium chromium-common) || return
  # shellcheck disable=SC2086
  [ -z "$libraries" ] || unpack_debian chromium $libraries || return
  rm -rf "$cache/apt"
  have_chromium
}

prepare_prometheus() {
  export PATH=$PATH:$cache/prometheus/usr/bin
  have_prometheus && return
  command -v apt-get >/dev/null || die "the tests need 'prometheus' and 'promtool' on PATH (macOS: brew install prometheus)"
  say "Unpacking Debian's prometheus below .cache"
  unpack_prometheus || die "cannot download Debian's prometheus: put 'prometheus' and 'promtool' on PATH"
  hash -r
  have_prometheus || die "Debian's prometheus does not run on this machine: put 'prometheus' and 'promtool' on PATH"
}

# Without them the comparison is left out, and pytest says so.
prepare_peers() {
  have_peers && return
  if ! command -v apt-get >/dev/null; then
    say "nginx and haproxy are not both on PATH: the sidecar is held against those that are (macOS: brew install them)"
    return
  fi
  say "Unpacking Debian's nginx and haproxy below .cache"
  unpack_peers || { apt_install nginx haproxy && have_peers; } ||
    die "Debian's nginx and haproxy cannot be had or do not run here: put 'nginx' and 'haproxy' on PATH"
}

# Without it the status page is tested but for what a browser makes of it, and pytest says so.
prepare_chromium() {
  have_chromium && return
  if ! command -v apt-get >/dev/null; then
    say "no 'chromium' is on PATH: what a browser makes of the status page is left out"
    return
  fi
  if [ "$(id -u)" -eq 0 ] && apt_install chromium fonts-dejavu-core && have_chromium; then
    return
  fi
  say "Unpacking Debian's chromium below .cache"
  unpack_chromium || say "Debian's chromium cannot be had or does not run here: the tests that need it are left out"
}

prepare_tests() {
  local pins=(.ci/requirements-dev.txt)
  prepare_package
  if ! is_done tests "${pins[@]}"; then
    say "Installing what the tests need"
    pip_install "$venv" --require-hashes "${pins[@]/#/--requirement=$root/}"
    set_done tests "${pins[@]}"
  fi
  prepare_prometheus
  prepare_peers
  prepare_chromium
}
