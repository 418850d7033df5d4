// What the launcher beside it, `xmpp-event-pusher`, runs.
// Kept in the JavaScript of old releases, so that they too can say which Node.js this needs.
const NEEDED = 24;
const [major] = process.versions.node.split('.');
if (Number(major) < NEEDED) {
  process.stderr.write(`xmpp-event-pusher needs Node.js ${NEEDED} or newer, this is ${process.versions.node}\n`);
  process.exit(1);
}
const isDaemon = process.argv[2] === 'run';
// Before anything else is loaded, which takes some tenths of a second. Until somebody listens, a SIGHUP ends the process,
// and as process 1 of a container it never sees a SIGTERM or SIGINT.
const early = [];
const remember = (signal) => early.push(signal);
if (isDaemon) for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, remember);
else if (process.pid === 1)
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ])
    process.on(signal, () => process.exit(code));
const { existsSync } = await import('node:fs');
// A checkout runs its TypeScript as it is; the package brings it compiled.
const source = new URL('../src/cli/', import.meta.url);
const load = (name) =>
  import(
    existsSync(source) ? new URL(`${name}.ts`, source).href : new URL(`../dist/cli/${name}.js`, import.meta.url).href
  );
if (isDaemon) {
  (await load('signals')).listenToSignals(early);
  process.off('SIGTERM', remember).off('SIGINT', remember).off('SIGHUP', remember);
}
const { main } = await load('main');
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error) => {
    // The daemon goes on: its log has a way of its own, and what a plugin prints is not worth a stop.
    if (isDaemon) return;
    // Whoever reads what this writes may stop reading (`… | head`): then there is nobody to write for. The code is that
    // of programs that SIGPIPE ends.
    if (error.code === 'EPIPE') process.exit(141);
    if (stream === process.stdout) process.stderr.write(`xmpp-event-pusher: can't write: ${error.message}\n`);
    process.exit(1);
  });
const code = await main(process.argv);
// Whatever a plugin left open must not keep the process: a supervisor waits for its end. What was written to a pipe is
// queued, and goes first.
await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((sent) => stream.write('', sent))));
process.exit(code);
