/**
 * The rules for imports, including type imports: no cycles between files, and a direction between the parts of src/.
 * `npm run lint` checks them; `npm run docs` draws the parts into docs/architecture.md.
 *
 * Usage: node scripts/imports.ts
 */
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The files that each file imports, as paths from the root. */
export type Imports = ReadonlyMap<string, readonly string[]>;

interface Part {
  readonly name: string;
  /** The files of the part: a folder, or single files. */
  readonly files: RegExp;
  /** What it may import besides itself and `base`; `*`: every part listed before it. */
  readonly imports: readonly string[];
}

/** The parts from the bottom up: a part may only be imported by those below it in this list. */
export const PARTS: readonly Part[] = [
  {
    name: 'base',
    files: /^src\/((authorities|errors|log|private-file|quote|sql|version|xml)\.ts|format\.js)$/,
    imports: [],
  },
  // Shared by all our HTTP servers.
  { name: 'http', files: /^src\/http\/[^/]+$/, imports: [] },
  { name: 'event', files: /^src\/event(-id)?\.ts$/, imports: [] },
  { name: 'notification', files: /^src\/notification\/[^/]+$/, imports: ['event'] },
  { name: 'tracing', files: /^src\/tracing\.ts$/, imports: ['notification'] },
  // The ports, and parts that need no external system.
  { name: 'outbox', files: /^src\/outbox\/[^/]+$/, imports: ['notification'] },
  { name: 'taps', files: /^src\/taps\/[^/]+$/, imports: ['event'] },
  { name: 'pipeline', files: /^src\/pipeline\/[^/]+$/, imports: ['event', 'notification', 'outbox', 'taps'] },
  // The implementations, each for one external system.
  { name: 'rabbitmq', files: /^src\/rabbitmq\/[^/]+$/, imports: [] },
  { name: 'config', files: /^src\/config\/[^/]+$/, imports: ['notification'] },
  { name: 'outbox/sqlite', files: /^src\/outbox\/sqlite\/[^/]+$/, imports: ['notification', 'outbox'] },
  {
    name: 'outbox/rabbitmq',
    files: /^src\/outbox\/rabbitmq\/[^/]+$/,
    imports: ['event', 'notification', 'outbox', 'rabbitmq', 'outbox/sqlite'],
  },
  {
    name: 'trace',
    files: /^src\/trace\/[^/]+$/,
    imports: ['event', 'notification', 'outbox', 'outbox/sqlite', 'pipeline'],
  },
  { name: 'taps/http', files: /^src\/taps\/http\/[^/]+$/, imports: ['http', 'event', 'taps', 'tracing', 'config'] },
  {
    name: 'taps/rabbitmq',
    files: /^src\/taps\/rabbitmq\/[^/]+$/,
    imports: ['event', 'taps', 'config', 'rabbitmq'],
  },
  { name: 'sns', files: /^src\/sns\/(explain\/)?[^/]+$/, imports: ['notification', 'tracing', 'pipeline', 'config'] },
  { name: 'sns/check', files: /^src\/sns\/check\/[^/]+$/, imports: ['notification', 'sns', 'config'] },
  { name: 'readiness', files: /^src\/readiness\.ts$/, imports: ['outbox', 'taps', 'pipeline'] },
  {
    name: 'ops',
    files: /^src\/ops\/[^/]+$/,
    imports: ['http', 'event', 'notification', 'outbox', 'taps', 'pipeline', 'readiness', 'config', 'trace'],
  },
  // The parts that assemble the others.
  { name: 'pusher', files: /^src\/(pusher|pusher-options|open-outbox|daemon|index)\.ts$/, imports: ['*'] },
  { name: 'cli', files: /^src\/cli\/(completion\/|init\/|adapter\/(\w+\/)?)?[^/]+$/, imports: ['*'] },
  // The library for subscribers; it does not use the daemon.
  { name: 'consumer', files: /^src\/consumer\/[^/]+$/, imports: ['event'] },
];

/** Reads the imports of all TypeScript files below the folders, except tests and test suites. */
export function readImports(folders: readonly string[], root: string = ROOT): Imports {
  const files = folders.flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: root }));
  const sources = files.filter((file) => !/(\.test|\.suite|contract)\.ts$/.test(file)).toSorted();
  return new Map(sources.map((file) => [file, importsOf(readFileSync(path.join(root, file), 'utf8'), file)]));
}

/** The project's files that a module imports or re-exports, statically or dynamically. */
export function importsOf(text: string, file: string): string[] {
  const found = text.matchAll(
    /^\s*(?:import|export)\b[^;'"]*?\bfrom\s*['"](\.[^'"]+)['"]|^\s*import\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm,
  );
  const names = [...found].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '');
  return [...new Set(names.map((name) => path.posix.join(path.posix.dirname(file), name)))];
}

/** The cycles: groups of files in which each imports each other one, directly or indirectly. */
export function circlesIn(imports: Imports): string[][] {
  // Tarjan's strongly connected components.
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  const visit = (file: string): number => {
    const index = order.size;
    order.set(file, index);
    stack.push(file);
    let lowest = index;
    for (const next of imports.get(file) ?? []) {
      if (!imports.has(next)) continue;
      if (!order.has(next)) lowest = Math.min(lowest, visit(next));
      else if (stack.includes(next)) lowest = Math.min(lowest, order.get(next) as number);
    }
    low.set(file, lowest);
    if (lowest === index) {
      const group = stack.splice(stack.indexOf(file));
      if (group.length > 1 || imports.get(file)?.includes(file)) circles.push(group.toSorted());
    }
    return lowest;
  };
  for (const file of imports.keys()) if (!order.has(file)) visit(file);
  return circles;
}

const partOf = (file: string): Part | undefined => PARTS.find(({ files }) => files.test(file));

function mayImport(from: Part, to: Part): boolean {
  if (from === to || to.name === 'base') return true;
  if (from.imports.includes('*')) return PARTS.indexOf(to) < PARTS.indexOf(from);
  return from.imports.includes(to.name);
}

/** Imports within src/ against the direction, and files that belong to no part, as sentences. */
export function misdirected(imports: Imports): string[] {
  const problems: string[] = [];
  for (const [file, targets] of imports) {
    if (!file.startsWith('src/')) continue;
    const from = partOf(file);
    if (!from) problems.push(`${file} is of no part: list it in scripts/imports.ts`);
    for (const target of targets) {
      const to = partOf(target);
      if (!from) continue;
      if (!to) problems.push(`${file} imports ${target}, which is of no part`);
      else if (!mayImport(from, to)) problems.push(`${file} imports ${target}: ${from.name} may not know ${to.name}`);
    }
  }
  return problems;
}

/** The parts and their imports as a Mermaid flowchart, without `base`, which all import. */
export function drawParts(imports: Imports): string {
  const edges = new Set<string>();
  for (const [file, targets] of imports)
    for (const target of targets) {
      const [from, to] = [partOf(file)?.name, partOf(target)?.name];
      if (from && to && from !== to && to !== 'base' && from !== 'base') edges.add(`${id(from)} --> ${id(to)}`);
    }
  const present = new Set([...imports.keys()].map((file) => partOf(file)?.name));
  const nodes = PARTS.filter(({ name }) => name !== 'base' && present.has(name)).map(
    ({ name }) => `${id(name)}[${name}]`,
  );
  return ['flowchart TD', ...nodes.toReversed(), ...[...edges].toSorted()].join('\n    ');
}

const PICTURE = /(<!-- The modules[^>]*-->\n)[\s\S]*?(<!-- end of the modules -->)/;

/** Returns docs/architecture.md with the current module diagram. */
export function withPicture(text: string): string {
  const picture = drawParts(readImports(['src']));
  return text.replace(PICTURE, (_, begin, end) => `${begin}\n\`\`\`mermaid\n${picture}\n\`\`\`\n\n${end}`);
}

const id = (name: string): string => name.replace('/', '_');

if (import.meta.main) {
  const imports = readImports(['src', 'bench', 'scripts']);
  const circles = circlesIn(imports).map((files) => `a circle of imports: ${files.join(', ')}`);
  const architecture = readFileSync(path.join(ROOT, 'docs/architecture.md'), 'utf8');
  const stale =
    architecture === withPicture(architecture) ? [] : ['the picture in docs/architecture.md is stale: npm run docs'];
  const problems = [...circles, ...misdirected(imports), ...stale];
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
