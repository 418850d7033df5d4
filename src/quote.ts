/** Quotes text for the languages of configuration files. Secrets, paths and domains may contain any character. */

/** A Lua string. Control characters become decimal escapes of three digits, so that a digit may follow. */
export function luaString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/\p{Cc}/gu, decimalBytes);
  return `"${inside}"`;
}

/** A double-quoted YAML scalar, the only kind that can contain any text. */
export function yamlString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/[\p{Cc}\u2028\u2029\ufeff]/gu, unicode);
  return `"${inside}"`;
}

/** A basic TOML string in our configuration, where `${` would begin a variable's name. */
export function tomlString(text: string): string {
  const inside = text.replace(/[\\"]/g, '\\$&').replace(/\p{Cc}/gu, unicode);
  return `"${inside.replaceAll('${', '$$${')}"`;
}

/** A value in an environment file of systemd's format. */
export function envString(text: string): string {
  return /^[\w@%+=:,./-]*$/.test(text) ? text : `"${text.replace(/["\\$`]/g, '\\$&')}"`;
}

/** An Erlang string, always in ASCII. */
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
