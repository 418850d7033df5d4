/**
 * Writes what is made from the code in docs/: the reference of the configuration, the schema of the tap protocol, and the
 * picture of the modules in the architecture. Tests compare them with what is there.
 *
 * Usage: npm run docs
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { describeConfig } from '../src/config/describe.ts';
import { batchSchema, eventSchema, MAX_BATCH_BYTES, MAX_EVENTS } from '../src/taps/http/payload.ts';
import { drawParts, readImports } from './imports.ts';

/** JSON Schema of a batch, version 1 of the tap protocol. */
export function tapProtocolSchema(): Record<string, unknown> {
  const { $schema, ...event } = z.toJSONSchema(eventSchema, { io: 'input' });
  const { properties, ...batch } = z.toJSONSchema(batchSchema, { io: 'input' });
  return {
    $schema,
    title: 'A batch of events, version 1 of the tap protocol',
    description: `The body of POST /v1/events, at most ${MAX_BATCH_BYTES} bytes of JSON. A batch that is not of this form is refused as a whole; an event that is not is refused alone. Texts hold characters of XML 1.0 only.`,
    type: batch.type,
    properties: { ...properties, events: { type: 'array', maxItems: MAX_EVENTS, items: { $ref: '#/$defs/event' } } },
    required: batch.required,
    dependentRequired: { epoch: ['first_seq'], first_seq: ['epoch'] },
    $defs: { event },
  };
}

const PICTURE = /(<!-- The modules[^>]*-->\n)[\s\S]*?(<!-- end of the modules -->)/;

/** The text of docs/architecture.md with the picture of the modules as they are. */
export function withPicture(text: string): string {
  const picture = drawParts(readImports(['src']));
  return text.replace(PICTURE, (_, begin, end) => `${begin}\n\`\`\`mermaid\n${picture}\n\`\`\`\n\n${end}`);
}

if (import.meta.main) {
  const docs = fileURLToPath(new URL('../docs/', import.meta.url));
  const schema = `${docs}tap-protocol.schema.json`;
  const architecture = `${docs}architecture.md`;
  writeFileSync(architecture, withPicture(readFileSync(architecture, 'utf8')));
  writeFileSync(`${docs}configuration.md`, describeConfig());
  writeFileSync(schema, JSON.stringify(tapProtocolSchema()));
  // The formatter, and not JSON.stringify, decides where lines break: the linter would say so otherwise.
  execFileSync('biome', ['format', '--write', schema], { stdio: 'inherit' });
}
