#!/usr/bin/env node
// Kept in the JavaScript of old releases, so that they too can say which Node.js this needs.
const NEEDED = 24;
const [major] = process.versions.node.split('.');
if (Number(major) < NEEDED) {
  process.stderr.write(`xmpp-event-pusher needs Node.js ${NEEDED} or newer, this is ${process.versions.node}\n`);
  process.exit(1);
}
const { existsSync } = await import('node:fs');
// A checkout runs its TypeScript as it is; the package brings it compiled.
const source = new URL('../src/cli/main.ts', import.meta.url);
const { main } = await import(existsSync(source) ? source.href : new URL('../dist/cli/main.js', import.meta.url).href);
const code = await main(process.argv);
// Whatever a plugin left open must not keep the process: a supervisor waits for its end.
process.exit(code);
