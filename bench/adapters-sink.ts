/**
 * The tap's place in `npm run bench:adapters`, a process of its own: takes every batch and does as little as it can, so
 * that what is measured is the adapter and not the daemon. Prints its port; GET tells how many events it has.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** How an event begins and nothing inside one does, where quotes are escaped. */
const EVENT = Buffer.from('{"kind":"');

let events = 0;

function count(batch: Buffer): number {
  let found = 0;
  for (let at = batch.indexOf(EVENT); at >= 0; at = batch.indexOf(EVENT, at + EVENT.length)) found += 1;
  return found;
}

const server = http.createServer((request, response) => {
  const reply = (body: object) => {
    const text = JSON.stringify(body);
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': text.length }).end(text);
  };
  if (request.method === 'GET') return reply({ events });
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const accepted = count(Buffer.concat(chunks));
    events += accepted;
    reply({ accepted, duplicates: 0, rejected: [] });
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
