/**
 * Bundles the console for the package: few small files, compressed in advance, with a hash of their content in their
 * names, so that browsers can cache them. A checkout serves the sources directly.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { build, type Metafile, type Plugin } from 'esbuild';
import { consoleSources } from '../src/ops/assets.ts';

const SOURCES = fileURLToPath(new URL('../src/ops/console/', import.meta.url));

/** Scripts refer to each other by the URLs that the daemon serves; uPlot's licence must stay with its code. */
const served: Plugin = {
  name: 'served',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/.*\.(js|css)$/ }, ({ path: name }) => {
      const source = consoleSources()[name.slice(1)];
      return source === undefined ? undefined : { path: source };
    });
    onLoad({ filter: /uPlot\.esm\.js$/ }, ({ path: file }) => {
      const contents = readFileSync(file, 'utf8');
      return { contents: contents.replace(/^\/\*\*/, '/*!') };
    });
  },
};

export async function bundleConsole(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const { metafile, outputFiles } = await build({
    absWorkingDir: SOURCES,
    entryPoints: ['./console.js', './console.css'],
    entryNames: '[name]-[hash]',
    chunkNames: '[name]-[hash]',
    outdir: folder,
    bundle: true,
    minify: true,
    splitting: true,
    format: 'esm',
    target: 'es2023',
    legalComments: 'inline',
    plugins: [served],
    metafile: true,
    write: false,
  });
  for (const { path: file, contents } of outputFiles) write(file, contents);
  write(path.join(folder, 'icon.svg'), readFileSync(path.join(SOURCES, 'icon.svg')));
  const html = readFileSync(path.join(SOURCES, 'index.html'), 'utf8');
  writeFileSync(path.join(folder, 'index.html'), withBundle(html, metafile));
}

/** Writes a file and its compressed copies. */
function write(file: string, contents: Uint8Array): void {
  writeFileSync(file, contents);
  const most = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
  writeFileSync(`${file}.br`, brotliCompressSync(contents, most));
  writeFileSync(`${file}.gz`, gzipSync(contents, { level: 9 }));
}

/**
 * Replaces names in the page with those of the bundle: one style sheet, and all scripts needed for the first figures.
 */
function withBundle(html: string, { outputs }: Metafile): string {
  const outputOf = (entry: string) => {
    const found = Object.entries(outputs).find(([, { entryPoint }]) => entryPoint === entry);
    if (!found) throw new Error(`the bundle has no ${entry}`);
    return found;
  };
  const [script, { imports }] = outputOf('console.js');
  const [style] = outputOf('console.css');
  const chunks = imports.filter(({ kind }) => kind === 'import-statement');
  const preloads = chunks.map(({ path: file }) => `<link rel="modulepreload" href="${path.basename(file)}" />`);
  return html
    .replace(/^\s*<link rel="stylesheet".*\n/gm, '')
    .replace(
      /<script type="module" src="console.js"><\/script>/,
      () =>
        `<link rel="stylesheet" href="${path.basename(style)}" />${preloads.join('')}<script type="module" src="${path.basename(script)}"></script>`,
    )
    .replace(/<!--.*?-->/gs, '')
    .replace(/>\s+</g, '> <');
}
