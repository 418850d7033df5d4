/** Quotes text for the languages of configuration files. Secrets, paths and domains may contain any character. */

/** A string of Lua. Control characters are decimal escapes of three digits, so that a digit may follow. */
export function luaString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/\p{Cc}/gu, decimalBytes);
  return `"${inside}"`;
}

/** A double-quoted scalar of YAML: alone among YAML's scalars it can hold any text. */
export function yamlString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/[\p{Cc}\u2028\u2029\ufeff]/gu, unicode);
  return `"${inside}"`;
}

/** A basic string of TOML in our own configuration, where `${` would begin the name of a variable. */
export function tomlString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/\p{Cc}/gu, unicode);
  return `"${inside.replaceAll('${', '$$${')}"`;
}

/** A value in an environment file of systemd's form. */
export function envString(text: string): string {
  return /^[\w@%+=:,./-]*$/.test(text) ? text : `"${text.replace(/["\\$`]/g, '\\$&')}"`;
}

/** A string of Erlang, in ASCII whatever is in it. */
export function erlangString(text: string): string {
  const inside = text
    .replace(/[\\"]/g, '\\$&')
    .replace(/[^ -~]/gu, (character) => `\\x{${(character.codePointAt(0) ?? 0).toString(16)}}`);
  return `"${inside}"`;
}

/** A word of a POSIX shell's command line. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

const unicode = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

const decimalBytes = (character: string) =>
  [...Buffer.from(character)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('');
