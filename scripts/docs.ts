/**
 * Generates from the code: the configuration reference, the module diagram in the architecture, the tables of fields
 * and of capacity constants, and schemas/. Tests check that they are up to date.
 *
 * Usage: npm run docs
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CONSTANTS } from '../src/cli/capacity-constants.ts';
import { describeConfig } from '../src/config/describe.ts';
import { FIELDS } from '../src/notification/fields.ts';
import { version } from '../src/version.ts';
import { withPicture } from './imports.ts';
import { schemaFiles } from './schemas.ts';

const FIELD_TABLE = /(<!-- The fields[^>]*-->\n)[\s\S]*?(<!-- end of the fields -->)/;

/** Returns docs/notifications.md with the current table of fields. */
export function withFields(text: string): string {
  const rows = Object.entries(FIELDS).map(([name, { type, text }]) => `| \`${name}\` | ${type} | ${text} |`);
  const table = `| name | type | value |\n| --- | --- | --- |\n${rows.join('\n')}\n`;
  return text.replace(FIELD_TABLE, (_, begin, end) => `${begin}\n${table}\n${end}`);
}

const CONSTANT_TABLE = /(<!-- The constants[^>]*-->\n)[\s\S]*?(<!-- end of the constants -->)/;

/** Returns docs/scaling.md with the current table of constants. */
export function withConstants(text: string): string {
  const rows = Object.values(CONSTANTS).map(
    ({ value, unit, source }) => `| ${value.toLocaleString('en')} | ${unit} | ${source} |`,
  );
  const table = `| constant | of | source |\n| ---: | --- | --- |\n${rows.join('\n')}\n`;
  return text.replace(CONSTANT_TABLE, (_, begin, end) => `${begin}\n${table}\n${end}`);
}

if (import.meta.main) {
  const docs = fileURLToPath(new URL('../docs/', import.meta.url));
  const architecture = `${docs}architecture.md`;
  writeFileSync(architecture, withPicture(readFileSync(architecture, 'utf8')));
  const notifications = `${docs}notifications.md`;
  writeFileSync(notifications, withFields(readFileSync(notifications, 'utf8')));
  const scaling = `${docs}scaling.md`;
  writeFileSync(scaling, withConstants(readFileSync(scaling, 'utf8')));
  writeFileSync(`${docs}configuration.md`, describeConfig());
  const root = fileURLToPath(new URL('../', import.meta.url));
  const files = [...schemaFiles(version)].map(([name, text]) => {
    writeFileSync(`${root}${name}`, text);
    return `${root}${name}`;
  });
  // Formatted by the linter's own formatter, so that the linter accepts the files.
  execFileSync('biome', ['format', '--write', ...files], { stdio: 'inherit' });
}
