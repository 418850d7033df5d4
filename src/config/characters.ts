/** Finds characters that a value should not have, and names the invisible ones. */

const NAMES: Readonly<Record<number, string>> = {
  9: 'a tab',
  10: 'a newline',
  13: 'a carriage return',
  32: 'a space',
  160: 'a no-break space',
  8203: 'a zero-width space',
  65279: 'a byte order mark',
};

/** `ends in U+000A (a newline)`: says where the character is, without showing the value. */
function name(value: string, index: number): string {
  const character = String.fromCodePoint(value.codePointAt(index) ?? 0);
  const code = character.codePointAt(0) ?? 0;
  const hex = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  const named = NAMES[code] === undefined ? hex : `${hex} (${NAMES[code]})`;
  if (index === 0) return `begins with ${named}`;
  return index + character.length === value.length ? `ends in ${named}` : `has ${named} inside`;
}

/**
 * The first character of an environment variable's value that is surely a mistake, as the end of a sentence; undefined
 * if there is none. A file mounted from a secret store ends in a newline, a pasted value in a space.
 */
export function oddCharacter(value: string): string | undefined {
  const index = value.search(/\p{Cc}|^\s|\s$|\uFEFF|\u200B/u);
  return index < 0 ? undefined : name(value, index);
}

/**
 * The first character of a secret or key that a header can't contain unchanged: anything but visible ASCII, and spaces
 * inside if `spaces` allows them.
 */
export function unusableCharacter(value: string, { spaces = false } = {}): string | undefined {
  const index = value.search(spaces ? /[^ -~]|^ | $/u : /[^!-~]/u);
  return index < 0 ? undefined : name(value, index);
}
