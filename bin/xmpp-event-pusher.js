// Run by the launcher `xmpp-event-pusher`. Uses only old JavaScript, so that old releases of Node.js can run it and
// print which one is needed.
const NEEDED = 24;
const [major] = process.versions.node.split('.');
if (Number(major) < NEEDED) {
  process.stderr.write(`xmpp-event-pusher needs Node.js ${NEEDED} or newer, this is ${process.versions.node}\n`);
  process.exit(1);
}
const isDaemon = process.argv[2] === 'run';
// Listen before loading anything else, which takes some tenths of a second: without a listener SIGHUP ends the process,
// and process 1 of a container ignores SIGTERM and SIGINT.
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
// A checkout runs its TypeScript directly; the package has compiled files.
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
let ended = false;
// A plugin that ends the process must not make a command look successful. `run` reports that itself.
if (!isDaemon)
  process.on('exit', (code) => {
    if (ended || code !== 0) return;
    process.stderr.write('xmpp-event-pusher: ended too early, probably because a plugin called process.exit\n');
    process.exitCode = 1;
  });
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error) => {
    // The daemon keeps running: its log is separate, and a plugin's output is not worth a stop.
    if (isDaemon) return;
    // The reader of the output may have stopped (`… | head`). Exits with the code of a program that SIGPIPE ends.
    if (error.code === 'EPIPE') process.exit(141);
    if (stream === process.stdout) process.stderr.write(`xmpp-event-pusher: can't write: ${error.message}\n`);
    process.exit(1);
  });
const code = await main(process.argv);
ended = true;
// Open handles of a plugin must not keep the process alive. Output to a pipe is queued, so wait until it is written.
await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((sent) => stream.write('', sent))));
process.exit(code);
