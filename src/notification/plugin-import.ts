/**
 * Imports a plugin's module such that it can be imported again: Node.js permanently caches ES modules by URL, CommonJS
 * modules by file, and the targets of symbolic links by link.
 *
 * Maintained invariants:
 * - The URL of each module in a generation (the plugin, and its imports from no package in node_modules other than its
 *   own) contains the generation, so it is evaluated once per generation, however many modules import it.
 * - A generation whose files have not changed is reused, because Node.js never frees one.
 */
import { realpathSync, statSync } from 'node:fs';
import { createRequire, registerHooks } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export interface Imported {
  readonly exports: Record<string, unknown>;
  /** Whether it was evaluated for this call. */
  readonly fresh: boolean;
  /** Changed files that plugins import but that only a restart can load again. */
  readonly stale: readonly string[];
}

interface Generation {
  readonly number: number;
  /** The plugin's own package or folder: in node_modules only files inside it belong to the generation. */
  readonly root: string;
  /** Fingerprints of its files when they were loaded, by path. */
  readonly files: Map<string, string>;
  /** The targets of the paths by which they were imported. */
  readonly links: Map<string, string>;
  /** Whether its evaluation finished: an unfinished generation can't be reused. */
  complete: boolean;
}

const MARK = 'plugin-generation';
const generations: Generation[] = [];
/** The generation that a CommonJS file was last loaded in: its own imports don't name one. */
const generationOf = new Map<string, Generation>();
/**
 * Files that are loaded once per process: those of packages, and ES modules that CommonJS requires, which Node.js
 * caches by file.
 */
const kept = new Map<string, string>();
let hooked = false;

/**
 * Imports a path or a package, as a module beside the configuration file would.
 * @param anew evaluate it even if nothing has changed
 */
export async function importPlugin(name: string, configFile: string, anew: boolean): Promise<Imported> {
  hook();
  const named = locate(name, configFile);
  const file = realOf(named);
  const known = generations.findLast(({ files }) => files.has(file));
  const fresh = !known?.complete || anew || !isUnchanged(known);
  const generation = fresh ? startGeneration(file) : known;
  generation.links.set(named, file);
  const exports = await import(urlIn(generation, file));
  generation.complete = true;
  return { exports, fresh, stale: [...kept].filter(([each, was]) => look(each) !== was).map(([each]) => each) };
}

/** The file of a plugin. @throws Node.js's error for a missing package */
function locate(name: string, configFile: string): string {
  if (/^[./]/.test(name) || /\.[cm]?[jt]s$/.test(name)) return path.resolve(path.dirname(configFile), name);
  // Resolved as for `import`, not `require`: a package may support only one.
  const parentURL = pathToFileURL(configFile).href;
  const hooks = registerHooks({
    resolve: (specifier, context, next) => next(specifier, specifier === name ? { ...context, parentURL } : context),
  });
  try {
    return fileURLToPath(import.meta.resolve(name));
  } finally {
    hooks.deregister();
  }
}

/** The path's target; the path itself if it does not exist, so that Node.js reports the error. */
const realOf = (file: string): string => (statSync(file, { throwIfNoEntry: false }) ? realpathSync.native(file) : file);

function startGeneration(file: string): Generation {
  const root = rootOf(file);
  const generation = {
    number: generations.length + 1,
    root,
    files: new Map([[file, look(file)]]),
    links: new Map(),
    complete: false,
  };
  generationOf.set(file, generation);
  // Node.js caches CommonJS modules by file.
  const { cache } = createRequire(import.meta.url);
  for (const each of Object.keys(cache)) if (isOwn(each, root)) delete cache[each];
  generations.push(generation);
  return generation;
}

/** A package's folder, for a file in node_modules; else the file's own folder. */
function rootOf(file: string): string {
  const inPackage = /^(.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+)[\\/]/.exec(file)?.[1];
  return inPackage ?? path.dirname(file);
}

/** Whether a file is evaluated anew in each generation with this root. */
const isOwn = (file: string, root: string): boolean =>
  file.startsWith(root + path.sep) && !file.slice(root.length).includes(`${path.sep}node_modules${path.sep}`);

/** A file's fingerprint, for comparison. */
function look(file: string): string {
  const { ino, size, mtimeMs, ctimeMs } = statSync(file, { throwIfNoEntry: false }) ?? {};
  return `${ino}/${size}/${mtimeMs}/${ctimeMs}`;
}

const isUnchanged = ({ files, links }: Generation): boolean =>
  [...files].every(([file, was]) => look(file) === was) && [...links].every(([link, file]) => realOf(link) === file);

function urlIn({ number }: Generation, file: string): string {
  const url = pathToFileURL(file);
  url.searchParams.set(MARK, String(number));
  return url.href;
}

/** One resolve hook for all plugins: modules that a generation imports later belong to it too. */
function hook(): void {
  if (hooked) return;
  hooked = true;
  registerHooks({
    resolve(specifier, context, next) {
      const generation = parentGeneration(context.parentURL);
      if (!generation) return next(specifier, context);
      const found = next(specifier, context);
      if (!found.url.startsWith('file:')) return found;
      // Node.js caches a link's target, which may have changed.
      const named = pathOf(specifier, context.parentURL) ?? fileURLToPath(found.url);
      const file = realOf(named);
      if (!isOwn(file, generation.root) && file.includes(`${path.sep}node_modules${path.sep}`)) {
        keep(file);
        return found;
      }
      if (context.conditions.includes('require') && (found.format?.startsWith('module') || /\.m[jt]s$/.test(file)))
        keep(file);
      generation.files.set(file, look(file));
      generation.links.set(named, file);
      generationOf.set(file, generation);
      return { ...found, url: urlIn(generation, file) };
    },
  });
}

function keep(file: string): void {
  if (!kept.has(file)) kept.set(file, look(file));
}

/** The path that a specifier names directly, if there is such a file. */
function pathOf(specifier: string, parentURL = ''): string | undefined {
  if (!/^(\.{0,2}\/|file:)/.test(specifier) || !URL.canParse(specifier, parentURL)) return undefined;
  const file = fileURLToPath(new URL(specifier, parentURL));
  return statSync(file, { throwIfNoEntry: false })?.isFile() ? file : undefined;
}

function parentGeneration(parentURL: string | undefined): Generation | undefined {
  if (!parentURL?.startsWith('file:')) return undefined;
  const marked = new URL(parentURL).searchParams.get(MARK);
  return marked === null ? generationOf.get(fileURLToPath(parentURL)) : generations[Number(marked) - 1];
}
