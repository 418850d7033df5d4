/** Generates TypeScript types from JSON Schema, as far as our schemas use it. */

export type Schema = Record<string, unknown>;

/**
 * Returns a module of interfaces.
 * @param about the first line of the module's documentation
 * @param schemas object schemas by type name
 */
export function typesOf(about: string, schemas: Readonly<Record<string, Schema>>): string {
  const interfaces = Object.entries(schemas).map(([name, schema]) => {
    const comment = typeof schema.description === 'string' ? `/** ${schema.description} */\n` : '';
    return `${comment}export interface ${name} ${typeOf(schema)}\n`;
  });
  return `/** ${about} Made by \`npm run docs\`; a test fails when it is stale. */\n\n${interfaces.join('\n')}`;
}

function typeOf(schema: Schema): string {
  if ('const' in schema) return `'${schema.const}'`;
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => `'${value}'`).join(' | ');
  if (schema.type === 'object') return objectOf(schema);
  if (schema.type === 'integer' || schema.type === 'number') return 'number';
  if (schema.type === 'string' || schema.type === 'boolean') return schema.type;
  throw new Error(`no type for ${JSON.stringify(schema)}`);
}

function objectOf({ properties = {}, required = [] }: Schema): string {
  const members = Object.entries(properties as Record<string, Schema>).map(([name, schema]) => {
    const comment = typeof schema.description === 'string' ? `  /** ${schema.description} */\n` : '';
    const key = /^[a-z_]+$/i.test(name) ? name : `'${name}'`;
    const optional = (required as readonly string[]).includes(name) ? '' : '?';
    return `${comment}  readonly ${key}${optional}: ${typeOf(schema)};\n`;
  });
  return `{\n${members.join('')}}`;
}
