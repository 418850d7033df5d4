#!/bin/sh
# Checks that the pinned Node.js runs, before any JavaScript does: npm's package has the program, but not the system
# libraries that it needs. Installs them with root on Debian, otherwise names them.
cd "$(dirname "$0")/.." || exit 1
node=node_modules/node/bin/node
if [ ! -x $node ]; then
  echo 'Node.js is not installed here: run `npm ci` first.' >&2
  exit 1
fi
said=$($node --version 2>&1) && exit 0
library=$(printf '%s\n' "$said" | sed -n 's/.*loading shared libraries: \([^:]*\):.*/\1/p')
# Debian names the package after the library: libatomic.so.1 is in libatomic1.
package=$(printf '%s\n' "$library" | sed 's/\.so\.//; s/[^a-z0-9.+-]//g')
if [ -z "$package" ]; then
  echo "Node.js does not run on this machine: $said" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing $package with apt-get, which Node.js needs …" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "$package" >/dev/null && $node --version >/dev/null && exit 0
fi
echo "Node.js needs the library $library, which is not on this machine: install it (Debian: \`apt install $package\`) and try again." >&2
exit 1
