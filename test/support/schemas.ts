/** Validates real messages against the published schemas: used by the collector and the tests' queues. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

const ajv = new Ajv2020({ strict: true });
const compiled = new Map<string, ValidateFunction>();

/** @param name of a file in schemas/, without extension */
export function assertValid(name: 'tap-protocol' | 'notification' | 'sns-envelope', value: unknown): void {
  let validate = compiled.get(name);
  if (!validate) {
    const file = new URL(`../../schemas/${name}.schema.json`, import.meta.url);
    validate = ajv.compile(JSON.parse(readFileSync(file, 'utf8')));
    compiled.set(name, validate);
  }
  assert.ok(validate(value), `${JSON.stringify(validate.errors)}: ${JSON.stringify(value).slice(0, 500)}`);
}
