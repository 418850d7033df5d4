/** The characters that XML 1.0 allows; XMPP and SNS allow no others. */

// Everything outside the Char production of XML 1.0, lone surrogates included (https://www.w3.org/TR/xml/#charsets).
const NOT_XML = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

/** The first character that XML 1.0, and so SNS and XMPP, forbids, as `U+0000`; undefined if there is none. */
export function forbiddenCharacter(text: string): string | undefined {
  const code = NOT_XML.exec(text)?.[0].codePointAt(0);
  return code === undefined ? undefined : `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
}
