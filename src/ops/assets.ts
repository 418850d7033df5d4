/** The console's files: read at the start, and served from memory. They hold no data, so they need no login. */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { FastifyInstance } from 'fastify';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const uplot = path.dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
const own = (name: string) => new URL(`./console/${name}`, import.meta.url);

const format = new URL('../format.js', import.meta.url);

const FILES: Readonly<Record<string, URL | string>> = {
  '/': own('index.html'),
  '/console.css': own('console.css'),
  '/icon.svg': own('icon.svg'),
  '/console.js': own('console.js'),
  '/age.js': own('age.js'),
  '/api.js': own('api.js'),
  '/confirm.js': own('confirm.js'),
  '/dead-letters.js': own('dead-letters.js'),
  '/dom.js': own('dom.js'),
  '/format.js': format,
  '/letter.js': own('letter.js'),
  '/plots.js': own('plots.js'),
  '/status.js': own('status.js'),
  '/tail.js': own('tail.js'),
  '/topics.js': own('topics.js'),
  '/uplot.js': path.join(uplot, 'dist/uPlot.esm.js'),
  '/uplot.css': path.join(uplot, 'dist/uPlot.min.css'),
};

export function serveAssets(server: FastifyInstance): void {
  for (const [url, file] of Object.entries(FILES)) {
    const content = readFileSync(file);
    const type = TYPES[path.extname(String(file))] as string;
    const etag = `"${hash('sha256', content).slice(0, 16)}"`;
    server.get(url, { config: { open: true } }, async (request, reply) => {
      // Asked for at every load and answered in a line while it is the same: an update must not meet old scripts.
      reply.header('etag', etag).header('cache-control', 'no-cache');
      if (request.headers['if-none-match'] === etag) return reply.code(304).send();
      return reply.type(type).send(content);
    });
  }
}
