/** The adapter's options from every place that ejabberd reads: `ejabberd.yml`, its includes, or a separate file. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isMap, isScalar, parseDocument } from 'yaml';
import { messageOf, PusherError } from '../../../errors.ts';
import { yamlString } from '../../../quote.ts';
import type { Settings, TapAccess } from '../server.ts';
import type { Places } from './places.ts';

export const MODULE = 'mod_event_pusher';

type Tree = Readonly<Record<string, unknown>>;

/** The options in `ejabberd.yml` and its includes. @throws PusherError ADAPTER_INSTALL when a file is no YAML */
export const inConfig = ({ config }: Places): Settings[] => (config === undefined ? [] : settingsIn(config));

/**
 * The separate files with options, the effective one first: the folder for options takes precedence over the modules'
 * own, and of several files with one name ejabberd reads the first.
 */
export const ownFiles = ({ options, modules }: Places): string[] =>
  [`${options}/${MODULE}.yml`, `${options}/${MODULE}.yaml`, `${modules}/*/conf/${MODULE}.{yml,yaml}`].flatMap(
    (pattern) => globSync(pattern),
  );

/** The options in a file and its includes; `domain` is undefined for all domains. */
export function settingsIn(file: string, seen: readonly string[] = []): Settings[] {
  if (!existsSync(file) || seen.includes(file)) return [];
  const found: Settings[] = [];
  for (const { key, value } of pairsOf(file)) {
    if (key === 'modules') found.push(...settings(value, undefined, file));
    if (key === 'host_config' || key === 'append_host_config')
      for (const [domain, options] of Object.entries(tree(value)))
        found.push(...settings(tree(options).modules, domain, file));
    if (key === 'include_config_file')
      for (const name of included(value))
        found.push(...settingsIn(path.resolve(path.dirname(file), name), [...seen, file]));
  }
  return found;
}

/** A file of options for all domains. */
export const ownFile = (tap: TapAccess): string => `modules:\n${entry(tap).join('\n')}\n`;

/**
 * A file of options with another url and secret, and the rest as it was; undefined unless it sets each exactly once.
 */
export function withTap(text: string, tap: TapAccess): string | undefined {
  let changed = text;
  for (const line of lines(tap)) {
    const [name] = line.split(':');
    const found = [...text.matchAll(new RegExp(`^( *)${name}:.*$`, 'gm'))];
    if (found.length !== 1) return undefined;
    const [[whole, indentation]] = found as [RegExpExecArray];
    changed = changed.replace(whole, () => `${indentation}${line}`);
  }
  return changed;
}

/** The options in the form below `modules:`. */
const entry = (tap: TapAccess): string[] => [`  ${MODULE}:`, ...lines(tap).map((line) => `    ${line}`)];

export const lines = ({ url, secret }: TapAccess): string[] => [
  `url: ${yamlString(url)}`,
  `secret: ${yamlString(secret)}`,
];

/** The pairs at the top of a file. Like ejabberd, it accepts duplicate keys. */
function pairsOf(file: string): { key: string; value: unknown }[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PusherError('ADAPTER_INSTALL', `can't read ${file}: ${messageOf(error)}`, error);
  }
  const document = parseDocument(text, { uniqueKeys: false, version: '1.1', logLevel: 'error' });
  const [problem] = document.errors;
  if (problem) throw new PusherError('ADAPTER_INSTALL', `${file} is not valid YAML: ${problem.message}`);
  if (!isMap(document.contents)) return [];
  return document.contents.items.map(({ key, value }) => ({
    key: String(isScalar(key) ? key.value : key),
    value: isNode(value) ? value.toJS(document) : value,
  }));
}

const isNode = (value: unknown): value is { toJS(document: unknown): unknown } =>
  typeof value === 'object' && value !== null && 'toJS' in value;

function settings(modules: unknown, domain: string | undefined, file: string): Settings[] {
  const list = Array.isArray(modules) ? modules : [modules];
  return list.flatMap((each) => {
    if (!(MODULE in tree(each))) return [];
    const { url, secret } = tree(tree(each)[MODULE]);
    return [{ domain, file, url: text(url), secret: text(secret) }];
  });
}

const text = (value: unknown): string | undefined =>
  value === undefined || value === null ? undefined : String(value);

const tree = (value: unknown): Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Tree) : {};

/** The files of `include_config_file`: a name, a list of names, or names with options. */
function included(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap(included);
  return Object.keys(tree(value));
}
