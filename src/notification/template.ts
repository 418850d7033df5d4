/**
 * Templates: text with names of fields in braces, such as `{user.domain}/{type}`. They are compiled at the start, which
 * reports every mistake; afterwards a template is a function of the event.
 */
import { distance } from 'fastest-levenshtein';
import type { XmppEvent } from '../event.ts';
import { FIELDS, type Field } from './fields.ts';

/** The text for an event; undefined if one of its names has no value. */
export type Template = (event: XmppEvent) => string | undefined;

type Part = string | Field;

/** Reads a template. `{{` and `}}` stand for literal braces. */
export function readTemplate(text: string): { readonly parts: readonly Part[] } | { readonly problem: string } {
  const parts: Part[] = [];
  for (const [found, name] of text.matchAll(/\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+/g)) {
    if (name !== undefined) {
      const field = fieldNamed(name);
      if (!field) return { problem: `names {${name}}, which is not known; did you mean {${nearestField(name)}}?` };
      parts.push(field);
    } else if (found === '{' || found === '}')
      return { problem: `has a "${found}" alone; "${found}${found}" stands for one` };
    else parts.push(found === '{{' || found === '}}' ? found.charAt(0) : found);
  }
  return { parts };
}

/** Makes a template's function. @param text accepted by `readTemplate` */
export function compileTemplate(text: string): Template {
  const read = readTemplate(text);
  if ('problem' in read) throw new Error(`template ${JSON.stringify(text)} ${read.problem}`);
  const [first, ...others] = read.parts;
  if (others.length === 0) {
    if (typeof first !== 'object') return () => first || undefined;
    return (event) => first.of(event) || undefined;
  }
  return (event) => {
    let whole = '';
    for (const part of read.parts) {
      const value = typeof part === 'string' ? part : part.of(event);
      if (value === '') return undefined;
      whole += value;
    }
    return whole;
  };
}

/** Whether a template names any field, so that its text varies. */
export function isTemplate(text: string): boolean {
  const read = readTemplate(text);
  return 'problem' in read || read.parts.some((part) => typeof part === 'object');
}

/** Why a template can't be a number; undefined if it is one, or a single numeric field. */
export function numberProblem(text: string): string | undefined {
  const read = readTemplate(text);
  if ('problem' in read) return read.problem;
  const [part, ...others] = read.parts;
  if (others.length === 0 && typeof part === 'object' && part.type === 'Number') return undefined;
  if (others.length === 0 && typeof part === 'string' && part.trim() !== '' && Number.isFinite(Number(part)))
    return undefined;
  const numbers = Object.entries(FIELDS).flatMap(([name, { type }]) => (type === 'Number' ? [`{${name}}`] : []));
  return `is no number: it may be a number, or one of ${numbers.join(', ')}`;
}

const fieldNamed = (name: string): Field | undefined =>
  Object.hasOwn(FIELDS, name) ? FIELDS[name as keyof typeof FIELDS] : undefined;

/** The field's name most similar to this one. */
export function nearestField(name: string): string {
  const names = Object.keys(FIELDS);
  return names.toSorted((a, b) => distance(name, a) - distance(name, b))[0] ?? '';
}
