/** Variations of a valid object, for tests of what is refused. */

/** In the place of a value: the field is left out. */
export const ABSENT = Symbol('left out');

/** An event with one field changed or omitted. */
export function changed(event: Record<string, unknown>, field: string, value: unknown): Record<string, unknown> {
  const { [field]: _, ...rest } = event;
  return value === ABSENT ? rest : { ...rest, [field]: value };
}

/** A value in the name of a test. */
export const show = (value: unknown): string =>
  value === ABSENT ? 'left out' : (JSON.stringify(value) ?? String(value)).slice(0, 40);
