/**
 * The console's files: read at the start, and served from memory. They hold no data, so they need no login. The package
 * contains them bundled and compressed (`scripts/bundle-console.ts`), a checkout their sources.
 */
import { hash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';
import { accepts } from './compress.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const FOLDER = fileURLToPath(new URL('./console/', import.meta.url));

/** The files of a checkout by their addresses. */
export const consoleSources = (): Readonly<Record<string, string>> => {
  const uplot = path.dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const scripts = readdirSync(FOLDER).filter((name) => name.endsWith('.js'));
  return {
    '/console.css': path.join(FOLDER, 'console.css'),
    '/icon.svg': path.join(FOLDER, 'icon.svg'),
    ...Object.fromEntries(scripts.map((name) => [`/${name}`, path.join(FOLDER, name)])),
    '/format.js': fileURLToPath(new URL('../format.js', import.meta.url)),
    '/uplot.js': path.join(uplot, 'dist/uPlot.esm.js'),
    '/uplot.css': path.join(uplot, 'dist/uPlot.min.css'),
  };
};

const isBundled = !existsSync(path.join(FOLDER, 'console.js'));

/** The page itself, which refers to the others. */
export function readPage(): string {
  const html = readFileSync(path.join(FOLDER, 'index.html'), 'utf8');
  if (isBundled) return html;
  // Preloaded together; otherwise the browser finds each only after loading the one before.
  const scripts = Object.keys(consoleSources()).filter((address) => address.endsWith('.js'));
  const preloads = scripts.map((address) => `<link rel="modulepreload" href="${address.slice(1)}" />`);
  return html.replace('</head>', () => `${preloads.join('')}</head>`);
}

export function serveAssets(server: FastifyInstance): void {
  if (isBundled) serveBundle(server);
  else for (const [address, file] of Object.entries(consoleSources())) serveSource(server, address, file);
}

function serveSource(server: FastifyInstance, address: string, file: string): void {
  const content = readFileSync(file, 'utf8');
  const etag = `"${hash('sha256', content).slice(0, 16)}"`;
  server.get(address, { config: { open: true } }, async (request, reply) => {
    // Revalidated at every load (304 while unchanged): an updated page must not run old scripts.
    reply.header('etag', etag).header('cache-control', 'no-cache');
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    return reply.type(TYPES[path.extname(file)] as string).send(content);
  });
}

/** Files with a hash in their names never change, so browsers cache them without asking again. */
function serveBundle(server: FastifyInstance): void {
  const read = (name: string) => readFileSync(path.join(FOLDER, name));
  const names = readdirSync(FOLDER).filter((name) => TYPES[path.extname(name)] !== undefined);
  for (const name of names) {
    const whole = read(name);
    const compressed = { br: read(`${name}.br`), gzip: read(`${name}.gz`) };
    const age = name === 'icon.svg' ? 'max-age=86400' : 'max-age=31536000, immutable';
    server.get(`/${name}`, { config: { open: true } }, async (request, reply) => {
      const encoding = accepts(request);
      reply.header('cache-control', age).header('vary', 'accept-encoding');
      if (encoding) reply.header('content-encoding', encoding);
      return reply.type(TYPES[path.extname(name)] as string).send(encoding ? compressed[encoding] : whole);
    });
  }
}
